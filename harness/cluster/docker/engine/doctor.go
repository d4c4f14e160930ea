package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Stage is a step to a usable engine, as Doctor tried it.
type Stage struct {
	Name   string
	Doc    string // what it needs
	Err    error  // nil: it works
	Remedy string // what to do about Err
	Note   string // what is different here, and works all the same
}

// stages in order. What fails first names the cause; nothing after it was tried.
var stages = []Stage{
	{Name: "socket", Doc: "a container engine that answers"},
	{Name: "permission", Doc: "the right to use it"},
	{Name: "version", Doc: "API 1.40 or newer (docker 19.03)"},
	{Name: "platform", Doc: "Linux containers"},
	{Name: "network", Doc: "an internal network"},
}

// errNotTried is the error of what comes after the first failure.
var errNotTried = errors.New("not tried")

// Doctor tries an engine stage by stage and names the first that fails, with the remedy.
func Doctor(ctx context.Context) []Stage {
	report := append([]Stage(nil), stages...)
	failed := func(name string, err error, remedy string) []Stage {
		found := false
		for i := range report {
			switch {
			case found:
				report[i].Err = errNotTried
			case report[i].Name == name:
				report[i].Err, report[i].Remedy, found = err, remedy, true
			}
		}
		return report
	}
	e, err := Connect(ctx)
	if err != nil {
		ce := &ConnectError{Stage: stages[0].Name, Err: err}
		errors.As(err, &ce)
		return failed(ce.Stage, ce.Err, ce.Remedy)
	}
	defer e.Close()
	report[0].Note, report[2].Note, report[3].Note = e.Host(), e.Kind()+" "+e.Version(), strings.Join(e.differences(), "; ")
	if err := e.tryNetwork(ctx); err != nil {
		return failed("network", err, "see the error; gauntlet clean removes what dead runs left")
	}
	return report
}

// tryNetwork makes and removes an internal network.
func (e *Engine) tryNetwork(ctx context.Context) error {
	r := e.NewRun("doctor")
	_, err := r.Network(ctx)
	left, removeErr := r.Remove(context.WithoutCancel(ctx))
	if len(left) > 0 {
		removeErr = errors.Join(removeErr, fmt.Errorf("left behind: %s", strings.Join(left, ", ")))
	}
	return errors.Join(err, removeErr)
}

// differences says what is not as with an engine of root on this machine.
func (e *Engine) differences() []string {
	var d []string
	switch {
	case !e.Local():
		d = append(d, "the engine is remote: bind mounts are paths of its machine")
	case e.info.OperatingSystem == "Docker Desktop":
		d = append(d, "the engine is in a virtual machine: bind mounts must be shared with it")
	}
	switch e.kind {
	case KindRootless:
		d = append(d, "rootless: files of bind mounts belong to subordinate users")
	case KindPodman:
		d = append(d, "Podman: its API is docker's with small differences")
	}
	for _, err := range []error{e.CPULimit(), e.MemoryLimit()} {
		if err != nil {
			d = append(d, err.Error())
		}
	}
	return d
}
