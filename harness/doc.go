// Package harness is the front door of Gauntlet for Go programs and tests: Test runs a scenario file as a test, Run
// runs one from a program, and Up starts a topology to break by hand. It wires the packages below it together; the
// command line is another thin user of it.
package harness
