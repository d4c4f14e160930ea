package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// keepBusy starts a process of this program that keeps one core busy half of the time. It has a session of its own, as another
// program on the machine would: in this one it would share what the scheduler lets the load's generator have first, and go before
// every node.
func keepBusy(ctx context.Context) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	self, err := os.Executable()
	if err != nil {
		cancel()
		return nil, err
	}
	c := exec.CommandContext(ctx, self, "busy")
	c.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	// Its end is ours: it reads from a pipe that closes with this process, however that ends.
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start the busy process: %w", err)
	}
	return func() { in.Close(); cancel(); c.Wait() }, nil
}

// busy spins for 3 s in every 6 s until its standard input ends.
func busy() {
	runtime.GOMAXPROCS(2) // one spins, one reads
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		b := make([]byte, 1)
		os.Stdin.Read(b)
	})
	for {
		until := time.Now().Add(3 * time.Second)
		for time.Now().Before(until) {
			for range 1_000_000 {
			}
		}
		select {
		case <-done:
			wg.Wait()
			return
		case <-time.After(3 * time.Second):
		}
	}
}
