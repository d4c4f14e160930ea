// Tally reads what `go test -json` writes and prints what `go test` would have printed, and then how many tests there
// were, and which were skipped for what reason: a test that was skipped has shown nothing, and plain `go test` does not
// say so.
//
//	set -o pipefail; go test -json ./... | go run ./ci/tally
package main

import (
	"fmt"
	"os"
)

func main() {
	ok, err := run(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}
