package program

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet is a Client that does one operation and waits.
type quiet struct{ work, verify error }

func (q quiet) Work(ctx context.Context, s Start, h *History) error {
	h.Do(2, CAS, "k", s.Run, "old", func() Result { return Result{Outcome: Unknown, Err: errors.New("reset")} })
	if q.work != nil {
		return q.work
	}
	<-ctx.Done()
	return ctx.Err()
}

func (q quiet) Verify(_ context.Context, _ Start, members []string, h *History) error {
	for _, m := range members {
		h.Read(m, "k", func() Result { return Result{Outcome: OK, Found: true, Value: "v", Count: 2} })
	}
	return q.verify
}

func talk(c Client, commands ...string) (string, []Message, error) {
	var out bytes.Buffer
	err := Serve(context.Background(), strings.NewReader(strings.Join(commands, "\n")+"\n"), &out, c)
	var all []Message
	for _, l := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		m, bad := Parse([]byte(l))
		if bad != nil {
			return out.String(), nil, errors.Join(err, bad)
		}
		all = append(all, m)
	}
	return out.String(), all, err
}

const start = `{"type":"start","version":1,"run":"r","more":"than is known"}`

func TestServe(t *testing.T) {
	_, ms, err := talk(quiet{}, start, `{"type":"stop"}`, `{"type":"verify","members":["a","b"]}`)
	require.NoError(t, err)
	var types []string
	for _, m := range ms {
		types = append(types, m.Type+m.Op+m.Member)
	}
	assert.Equal(t, []string{"hello", "opcas", "done", "opreada", "opreadb", "done"}, types)
	cas := ms[1]
	assert.Equal(t, Message{Type: "op", Op: CAS, Client: 2, Key: "k", Value: "r", Old: "old", Call: cas.Call, Return: cas.Return, Outcome: Unknown, Error: "reset"}, cas)
	assert.Equal(t, 2, ms[3].Count)
}

func TestServeIsToldSomethingWrong(t *testing.T) {
	for want, commands := range map[string][]string{
		"speaks version 7":           {`{"type":"start","version":7}`},
		"a second start":             {start, start},
		`no command is of type "go"`: {`{"type":"go"}`},
		"reading a command":          {"start"},
	} {
		_, ms, err := talk(quiet{}, commands...)
		require.ErrorContains(t, err, want)
		assert.Contains(t, ms[len(ms)-1].Error, want, "the harness hears of it too")
	}
}

func TestServePassesErrorsOn(t *testing.T) {
	_, ms, err := talk(quiet{work: errors.New("no database")}, start, `{"type":"stop"}`)
	require.ErrorContains(t, err, "working: no database")
	assert.Equal(t, TypeError, ms[len(ms)-1].Type)
	_, ms, err = talk(quiet{verify: errors.New("no reading")}, `{"type":"verify"}`)
	require.ErrorContains(t, err, "verifying: no reading")
	assert.Equal(t, TypeError, ms[len(ms)-1].Type)

	broken, w := io.Pipe()
	require.NoError(t, broken.Close())
	require.ErrorIs(t, Serve(context.Background(), strings.NewReader(""), w, quiet{}), io.ErrClosedPipe)
}

func TestParse(t *testing.T) {
	const op = `{"type":"op","op":"put","key":"k","call":1,"return":2,"outcome":"ok"}`
	_, err := Parse([]byte(op))
	require.NoError(t, err)
	for want, line := range map[string]string{
		"line is empty":               ``,
		"no JSON object":              `hello`,
		"unknown field":               `{"type":"done","colour":"red"}`,
		"more than one":               `{"type":"done"} {"type":"done"}`,
		`no "type"`:                   `{}`,
		`type "verify"`:               `{"type":"verify"}`,
		"version 0":                   `{"type":"hello"}`,
		`operation is called "write"`: strings.Replace(op, "put", "write", 1),
		`outcome is called ""`:        strings.Replace(op, `"ok"`, `""`, 1),
		`needs a "key"`:               strings.Replace(op, `"k"`, `""`, 1),
		`needs "found"`:               strings.Replace(op, "put", "get", 1),
		"it changes nothing":          strings.Replace(strings.Replace(op, "put", "read", 1), `"ok"`, `"unknown"`, 1),
		`"call" (3)`:                  strings.Replace(op, `"call":1`, `"call":3`, 1),
		`"call" (0)`:                  strings.Replace(op, `"call":1`, `"call":0`, 1),
		"not negative":                strings.Replace(op, `"key"`, `"client":-1,"key"`, 1),
	} {
		_, err := Parse([]byte(line))
		require.ErrorContains(t, err, want)
	}
}
