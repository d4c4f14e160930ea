// Command probe is the program that runs inside the nodes of package clustertest: it serves what a test can talk to,
// reports what it sees from inside, and tries to get out. Every verb but serve, kid, sleep and meet prints one JSON value
// and ends.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// verbs are what the program can do, by the first argument.
var verbs = map[string]func(args []string) error{
	"serve":   serve,   // the main program of a node
	"kid":     kid,     // a process that serve started
	"job":     job,     // ends after a while, with a code or by a signal
	"sleep":   sleep,   // stays, with children where asked
	"resolve": resolve, // names
	"dial":    dial,    // one connection, one line, one answer
	"check":   check,   // a healthcheck
	"env":     env,     // environment and identity
	"ps":      ps,      // processes that can be seen
	"write":   write,   // files
	"read":    read,
	"cat":     cat, // stdin to stdout
	"spew":    spew,
	"burn":    burn,   // processor time
	"meet":    meet,   // what another node could meet this one by
	"visit":   visit,  // tries to meet
	"escape":  escape, // tries to get out
	"userns":  userns, // tries it again as root of a user namespace of its own
}

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) == 0 || verbs[args[0]] == nil {
		fmt.Fprintf(os.Stderr, "probe: no verb in %q\n", args)
		return 2
	}
	if err := verbs[args[0]](args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "probe %s: %v\n", args[0], err)
		return 1
	}
	return 0
}

// show prints the answer of a verb.
func show(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }

func cat([]string) error {
	_, err := io.Copy(os.Stdout, os.Stdin)
	return err
}
