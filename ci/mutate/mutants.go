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
	file     string
	line     int
	from, to int // bytes that are replaced
	old, new string
	source   []byte // of the unchanged file
}

func (m mutant) where() string  { return fmt.Sprintf("%s:%06d:%06d", m.file, m.line, m.from) }
func (m mutant) String() string { return fmt.Sprintf("%s:%d: %s -> %s", m.file, m.line, m.old, m.new) }

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
	add := func(from, to token.Pos, text string) {
		a, b := fset.Position(from), fset.Position(to)
		all = append(all, mutant{file, a.Line, a.Offset, b.Offset, string(src[a.Offset:b.Offset]), text, src})
	}
	verdict := func(e ast.Expr) {
		if id, ok := e.(*ast.Ident); ok && verdicts[id.Name] != "" {
			add(id.Pos(), id.End(), verdicts[id.Name])
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			if op, ok := swapped[n.Op]; ok {
				add(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), op.String())
			}
		case *ast.IfStmt:
			cond := string(src[fset.Position(n.Cond.Pos()).Offset:fset.Position(n.Cond.End()).Offset])
			add(n.Cond.Pos(), n.Cond.End(), "false && ("+cond+")")
		case *ast.BasicLit:
			for _, v := range beside(n) {
				add(n.Pos(), n.End(), v)
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
