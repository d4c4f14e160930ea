// Command mydbctl administers mydb.
//
//	mydbctl promote                make the member that it runs on the primary
//	mydbctl compact                every member compacts its log
//	mydbctl replication --check    fails unless that member hears the primary
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

var client = &http.Client{Timeout: 10 * time.Second}

func main() {
	if err := run(strings.Join(os.Args[1:], " ")); err != nil {
		fmt.Fprintln(os.Stderr, "mydbctl:", err)
		os.Exit(1)
	}
}

func run(command string) error {
	self, err := os.Hostname()
	if err != nil {
		return err
	}
	switch command {
	case "promote":
		return post(self, "/promote")
	case "compact":
		var errs []error
		for _, m := range []string{"mydb-1", "mydb-2", "mydb-3"} {
			errs = append(errs, post(m, "/compact"))
		}
		return errors.Join(errs...)
	case "replication --check":
		res, err := client.Get("http://" + self + ":7400/status")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		var s struct{ Linked bool }
		if err := json.NewDecoder(res.Body).Decode(&s); err != nil {
			return err
		}
		if !s.Linked {
			return errors.New("the primary is not heard")
		}
		return nil
	}
	return fmt.Errorf("no command %q: promote, compact or replication --check", command)
}

func post(member, path string) error {
	res, err := client.Post("http://"+member+":7400"+path, "", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(res.Body)
		return fmt.Errorf("%s of %s: %s: %s", path, member, res.Status, b)
	}
	return nil
}
