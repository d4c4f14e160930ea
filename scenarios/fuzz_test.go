package scenarios

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/hasvc/gauntlet/harness/cluster"
)

// FuzzParse feeds bytes to the whole way of a file. Whatever they are: no panic, every error with a place within the text,
// and what is valid compiles, twice the same, and can be explained.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"*.yaml", "testdata/*.yaml", "topologies/*.yaml"} {
		files, err := filepath.Glob(pattern)
		require.NoError(f, err)
		for _, file := range files {
			src, err := os.ReadFile(file)
			require.NoError(f, err)
			f.Add(src)
		}
	}
	f.Add([]byte(good))
	f.Add([]byte("a: &a [*a]\n<<: *a\n"))
	f.Add([]byte(strings.Replace(good, "pick: leader", `pick: "0..9223372036854775807"`, 1)))
	f.Add([]byte(strings.Replace(good, "{{mod .N 50}}", "{{range 9}}{{with .ID}}{{rand 3}}{{end}}{{end}}", 1)))
	f.Add([]byte("a: &t [1]\nb: *t\nc: &t {d: *t}\n"))
	f.Add([]byte("- - - ? {[!!x &y *y]}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		for _, spec := range []*cluster.Spec{reference(), mydb(), nil} {
			fuzzOne(t, src, spec)
		}
	})
}

func fuzzOne(t *testing.T, src []byte, spec *cluster.Spec) {
	f, err := Parse("x.yaml", src, realTables())
	if f == nil {
		checkErrors(t, err, src)
		return
	}
	if err := f.Validate(spec); err != nil {
		checkErrors(t, err, src)
		return
	}
	require.NoError(t, err)
	if f.Rounds != nil && f.Rounds.Count > 5 {
		f.Rounds.Count = 5
	}
	p, err := Compile(f, spec, 1)
	require.NoError(t, err)
	again, err := Compile(f, spec, 1)
	require.NoError(t, err)
	require.Equal(t, string(marshal(p)), string(marshal(again)))
	require.True(t, json.Valid(marshal(p)))
	for _, l := range p.Loads {
		for _, r := range l.Requests {
			require.True(t, r.Body == nil || json.Valid(r.Body), "%s", r.Body)
		}
	}
	for _, a := range p.Assert {
		require.True(t, json.Valid(a.Params), "%s", a.Params)
	}
	var b bytes.Buffer
	require.NoError(t, Explain(&b, p))
}

func checkErrors(t *testing.T, err error, src []byte) {
	var es Errors
	require.True(t, errors.As(err, &es), "%v", err)
	require.NotEmpty(t, es)
	if !utf8.Valid(src) || len(src) > maxBytes || bytes.ContainsRune(src, '\r') {
		return // lines are counted differently there
	}
	for _, e := range es {
		checkPlace(t, e, strings.ReplaceAll(string(src), "\t", " "))
	}
}
