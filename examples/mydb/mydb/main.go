// Command mydb is a small replicated database that knows nothing of Gauntlet: it stands for a system that somebody else wrote.
//
//	mydb member           one of MYDB_MEMBERS; the first of them is the primary until another one is promoted
//	mydb api              an HTTP front: POST /put goes to the primary
//	mydb proxy master     a TCP port before all ready replicas of api; SIGHUP replaces its worker without losing a request
//
// MYDB_VERSION=v1.0.0 is an old release with faults: it acknowledges before it writes, and it does not drain.
package main

import (
	"fmt"
	"log"
	"os"
)

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	verbs := map[string]func([]string) error{"member": member, "api": api, "proxy": proxy}
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: mydb member|api|proxy")
		os.Exit(2)
	}
	if err := verbs[os.Args[1]](os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

func old() bool { return os.Getenv("MYDB_VERSION") == "v1.0.0" }
