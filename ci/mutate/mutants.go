package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mutant is one change to one file.
type mutant struct {
	id       int // from 1
	file     string
	line     int
	from, to int // bytes that are replaced
	old, new string
	shown    string // what old becomes, where new is more than that
	source   []byte // of the unchanged file
	// switched writes the change so that it is there when the program runs as mutant id and not otherwise. inner writes a part of
	// the file with all such changes in it. Nil where a change cannot be written so: it takes a compilation of its own.
	switched func(id int, inner func(from, to int) string) string
}

func (m mutant) where() string { return fmt.Sprintf("%s:%06d:%06d", m.file, m.line, m.from) }

func (m mutant) String() string {
	return fmt.Sprintf("%s:%d: %s -> %s", m.file, m.line, m.old, m.change())
}

func (m mutant) change() string {
	if m.shown != "" {
		return m.shown
	}
	return m.new
}

// text is the changed file.
func (m mutant) text() []byte {
	return append(append(append([]byte(nil), m.source[:m.from]...), m.new...), m.source[m.to:]...)
}

// read finds the mutants of the files of a package, tests apart.
func read(dir, pattern string) ([]mutant, error) {
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		return nil, fmt.Errorf("looking for files: %w", err)
	}
	var all []mutant
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") || !strings.HasSuffix(f, ".go") {
			continue
		}
		src, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("reading a source: %w", err)
		}
		ms, err := mutants(f, src)
		if err != nil {
			return nil, err
		}
		all = append(all, ms...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no file of %s matches %s and has anything to change", dir, pattern)
	}
	for i := range all {
		all[i].id = i + 1
	}
	return all, nil
}

// swapped are the operators that are exchanged.
var swapped = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.EQL: token.NEQ, token.NEQ: token.EQL, token.LAND: token.LOR, token.LOR: token.LAND,
}

// verdicts are the names that are exchanged where they are a value.
var verdicts = map[string]string{"Pass": "Fail", "Fail": "Pass", "Invalid": "Pass"}

// mutants finds what can be changed in a source.
func mutants(file string, src []byte) ([]mutant, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, src, 0)
	if err != nil {
		return nil, fmt.Errorf("parsing %s: %w", file, err)
	}
	var all []mutant
	at := func(p token.Pos) int { return fset.Position(p).Offset }
	ints, constant := plainInts(fset, f)
	add := func(from, to token.Pos, text string) *mutant {
		a, b := fset.Position(from), fset.Position(to)
		all = append(all, mutant{file: file, line: a.Line, from: a.Offset, to: b.Offset, old: string(src[a.Offset:b.Offset]), new: text, source: src})
		return &all[len(all)-1]
	}
	verdict := func(e ast.Expr) {
		if id, ok := e.(*ast.Ident); ok && verdicts[id.Name] != "" {
			m := add(id.Pos(), id.End(), verdicts[id.Name])
			m.switched = pick(m.from, m.to, m.new)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if op, ok := swapped[n.Op]; ok {
				m := add(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), op.String())
				if !constant[n] {
					m.shown = m.new
					m.switched = operands(n.Op, [4]int{at(n.X.Pos()), at(n.X.End()), at(n.Y.Pos()), at(n.Y.End())})
					m.from, m.to = at(n.X.Pos()), at(n.Y.End())
					m.new = string(src[m.from:at(n.OpPos)]) + op.String() + string(src[at(n.OpPos)+len(n.Op.String()):m.to])
				}
			}
		case *ast.IfStmt:
			from, to := at(n.Cond.Pos()), at(n.Cond.End())
			add(n.Cond.Pos(), n.Cond.End(), "false && ("+string(src[from:to])+")").switched = func(id int, inner func(from, to int) string) string {
				return fmt.Sprintf("!mutant(%d) && (%s)", id, inner(from, to))
			}
		case *ast.BasicLit:
			for _, v := range beside(n) {
				m := add(n.Pos(), n.End(), v)
				if ints[n] && !constant[n] {
					m.switched = pick(m.from, m.to, v)
				}
			}
		case *ast.ReturnStmt:
			for _, e := range n.Results {
				verdict(e)
			}
		case *ast.AssignStmt:
			for _, e := range n.Rhs {
				verdict(e)
			}
		case *ast.KeyValueExpr:
			verdict(n.Value)
		}
		return true
	})
	return all, nil
}

// beside are the numbers next to a literal.
func beside(n *ast.BasicLit) []string {
	switch n.Kind {
	case token.INT:
		v, err := strconv.ParseInt(n.Value, 0, 64)
		if err != nil {
			return nil
		}
		if v == 0 {
			return []string{"1"}
		}
		return []string{strconv.FormatInt(v+1, 10), strconv.FormatInt(v-1, 10)}
	case token.FLOAT:
		return []string{"(" + n.Value + " + 1)"}
	}
	return nil
}
