// Patient is the one program of the image that the tests run: it does what its first argument says.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	args := os.Args[2:]
	switch os.Args[1] {
	case "idle": // ends on SIGTERM with 7
		await(syscall.SIGTERM)
		os.Exit(7)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		await(syscall.SIGINT)
	case "parent": // has a child
		child := exec.Command(os.Args[0], "idle", "as-child")
		must(child.Start())
		fmt.Println("child ended:", child.Wait())
	case "exit":
		os.Exit(number(args[0]))
	case "write": // N bytes to each stream, then exit
		n := number(args[0])
		fmt.Fprint(os.Stdout, strings.Repeat("o", n))
		fmt.Fprint(os.Stderr, strings.Repeat("e", n))
		os.Exit(number(args[1]))
	case "echo": // input to output; how much it was to the other
		n, err := io.Copy(os.Stdout, os.Stdin)
		must(err)
		fmt.Fprintln(os.Stderr, n)
	case "die": // of a signal
		must(syscall.Kill(os.Getpid(), syscall.Signal(number(args[0]))))
		select {}
	case "silent": // closes its output and goes on
		os.Stdout.Close()
		os.Stderr.Close()
		time.Sleep(300 * time.Millisecond)
		os.Exit(3)
	case "who":
		host, _ := os.Hostname()
		dir, _ := os.Getwd()
		fmt.Println(os.Getuid(), dir, host, os.Getenv("COLOUR"), len(args))
	case "cat":
		for _, name := range args {
			b, err := os.ReadFile(name)
			must(err)
			info, err := os.Stat(name)
			must(err)
			fmt.Printf("%s %o %s\n", name, info.Mode().Perm(), bytes.TrimSpace(b))
		}
	case "stat":
		info, err := os.Stat(args[0])
		must(err)
		fmt.Println(info.Mode())
	case "touch":
		must(os.WriteFile(args[0], nil, 0o644))
	case "have":
		_, err := os.Stat(args[0])
		must(err)
	case "fill": // writes N bytes to a file
		must(os.WriteFile(args[0], make([]byte, number(args[1])), 0o644))
	case "eat": // touches N MiB of memory
		var all [][]byte
		for range number(args[0]) {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
		}
		fmt.Println("ate", len(all))
	case "signal": // SIG to every process whose command line has WORD
		sent := 0
		dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, d := range dirs {
			b, _ := os.ReadFile(d)
			pid := number(filepath.Base(filepath.Dir(d)))
			if pid != os.Getpid() && strings.Contains(string(b), args[1]) {
				must(syscall.Kill(pid, syscall.Signal(number(args[0]))))
				sent++
			}
		}
		fmt.Println(sent)
		fmt.Fprintln(os.Stderr, "done")
	default:
		panic(os.Args[1])
	}
}

// await says that it is ready, and waits for a signal.
func await(sig os.Signal) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, sig)
	fmt.Println("ready")
	<-c
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	must(err)
	return n
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
