package main

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// tools are what this program is in a node, where its first argument is one of them.
var tools = map[string]func(args []string) error{"sink": sink, "flood": flood}

// floodTime is how long each stream sends.
const floodTime = 2 * time.Second

// sink reads what comes to ADDRESS and throws it away.
func sink(args []string) error {
	l, err := net.Listen("tcp4", args[0])
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			// Not io.Copy to io.Discard, which reads 8 KB at a time.
			for buf := make([]byte, 256<<10); ; {
				if _, err := c.Read(buf); err != nil {
					return
				}
			}
		}()
	}
}

// flood sends to a sink at ADDRESS over COUNT connections at once, and prints the bytes that came there in a second.
func flood(args []string) error {
	count, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	var conns []*net.TCPConn
	for range count {
		c, err := net.Dial("tcp4", args[0])
		if err != nil {
			return err
		}
		conns = append(conns, c.(*net.TCPConn))
	}
	sent := make([]int64, count)
	var all errgroup.Group
	begin := time.Now()
	for i, c := range conns {
		all.Go(func() error {
			defer c.Close()
			for buf := make([]byte, 256<<10); time.Since(begin) < floodTime; {
				n, err := c.Write(buf)
				if err != nil {
					return err
				}
				sent[i] += int64(n)
			}
			if err := c.CloseWrite(); err != nil {
				return err
			}
			_, err := io.ReadAll(c) // until the sink has read it all
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	took := time.Since(begin)
	var sum int64
	for _, n := range sent {
		sum += n
	}
	fmt.Println(int64(float64(sum) / took.Seconds()))
	return nil
}
