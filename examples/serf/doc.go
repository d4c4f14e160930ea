// Package serf is an example: a cluster of somebody else's program, a scenario that breaks it, and a program of the user's that works on
// it and says what it did. None of it is known to the harness.
package serf
