package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
)

// helpers are in every package under test: which mutant it is to be is said by the environment, so that one compilation does for all.
// A run that is traced writes the number of each change when it first comes by it: tests that do not come by one cannot notice it.
const helpers = `package %s

import (
	"cmp"
	"fmt"
	"os"
	"strconv"
	"sync"
)

var (
	mutantNow, _   = strconv.Atoi(os.Getenv("MUTANT"))
	mutantTrace, _ = os.OpenFile(os.Getenv("MUTANT_TRACE"), os.O_WRONLY|os.O_APPEND, 0) // nil without a name
	mutantPassed   sync.Map
)

func mutant(id int) bool {
	if mutantTrace != nil {
		if _, passed := mutantPassed.LoadOrStore(id, true); !passed {
			fmt.Fprintln(mutantTrace, id)
		}
	}
	return id == mutantNow
}

func mutantPick[T any](id int, a, b T) T {
	if mutant(id) {
		return b
	}
	return a
}

// mutantLess is a < b, or with the change a <= b.
func mutantLess[T cmp.Ordered](id int, a, b T) bool { is := mutant(id); return a < b || (is && a == b) }

// mutantAtMost is a <= b, or with the change a < b.
func mutantAtMost[T cmp.Ordered](id int, a, b T) bool { is := mutant(id); return a < b || (!is && a == b) }

func mutantAnd(id int, a, b func() bool) bool {
	if mutant(id) {
		return a() || b()
	}
	return a() && b()
}

func mutantOr(id int, a, b func() bool) bool {
	if mutant(id) {
		return a() && b()
	}
	return a() || b()
}
`

// pick chooses between the value at a place and another.
func pick(from, to int, is string) func(int, func(from, to int) string) string {
	return func(id int, inner func(from, to int) string) string {
		return fmt.Sprintf("mutantPick(%d, %s, %s)", id, inner(from, to), is)
	}
}

// operands writes an expression whose operator is exchanged. p is where its operands are.
func operands(op token.Token, p [4]int) func(int, func(from, to int) string) string {
	return func(id int, inner func(from, to int) string) string {
		x, y := inner(p[0], p[1]), inner(p[2], p[3])
		lazily := func(s string) string { return "func() bool { return " + s + " }" }
		switch op {
		case token.LSS:
			return fmt.Sprintf("mutantLess(%d, %s, %s)", id, x, y)
		case token.GTR:
			return fmt.Sprintf("mutantLess(%d, %s, %s)", id, y, x)
		case token.LEQ:
			return fmt.Sprintf("mutantAtMost(%d, %s, %s)", id, x, y)
		case token.GEQ:
			return fmt.Sprintf("mutantAtMost(%d, %s, %s)", id, y, x)
		case token.LAND:
			return fmt.Sprintf("mutantAnd(%d, %s, %s)", id, lazily(x), lazily(y))
		case token.LOR:
			return fmt.Sprintf("mutantOr(%d, %s, %s)", id, lazily(x), lazily(y))
		}
		return fmt.Sprintf("(mutant(%d) != (%s %s %s))", id, x, op, y)
	}
}

// plainInts finds the literals that are surely of type int, and what must stay constant. Imports are not read: what depends on them has
// no known type and takes a compilation of its own.
func plainInts(fset *token.FileSet, f *ast.File) (ints map[*ast.BasicLit]bool, constant map[ast.Node]bool) {
	ints, constant = map[*ast.BasicLit]bool{}, map[ast.Node]bool{}
	info := types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	c := types.Config{Error: func(error) {}, Importer: nothing{}}
	_, _ = c.Check("p", fset, []*ast.File{f}, &info) // errors are expected
	for e, t := range info.Types {
		if l, ok := e.(*ast.BasicLit); ok && t.Type == types.Typ[types.Int] {
			ints[l] = true
		}
	}
	all := func(n ast.Node) {
		ast.Inspect(n, func(n ast.Node) bool {
			if n != nil {
				constant[n] = true
			}
			return true
		})
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			if n.Tok == token.CONST {
				all(n)
			}
		case *ast.ArrayType:
			if n.Len != nil {
				all(n.Len)
			}
		}
		return true
	})
	return ints, constant
}

// nothing imports nothing.
type nothing struct{}

func (nothing) Import(path string) (*types.Package, error) {
	return nil, fmt.Errorf("%s is not read", path)
}

// together writes a file with all of its changes, each behind its switch.
func together(src []byte, ms []mutant) string {
	order := make([]int, 0, len(ms))
	for i := range ms {
		if ms[i].switched != nil {
			order = append(order, i)
		}
	}
	// What is wider stands around what is narrower; of the same width what was found later, the inner part, is the narrower.
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(ms[a].from, ms[b].from), cmp.Compare(ms[b].to, ms[a].to))
	})
	var write func(from, to, k int) string
	write = func(from, to, k int) string {
		var b strings.Builder
		at := from
		for k < len(order) {
			m := ms[order[k]]
			if m.from < at {
				k++
				continue
			}
			if m.from >= to {
				break
			}
			b.Write(src[at:m.from])
			next := k + 1
			b.WriteString(m.switched(m.id, func(from, to int) string { return write(from, to, next) }))
			at = m.to
		}
		b.Write(src[at:to])
		return b.String()
	}
	return write(0, len(src), 0)
}
