// Package mydb holds scenarios for a system that knows nothing of Gauntlet: a database (mydb), its client (mydbload) and its
// tool (mydbctl). The harness has no code for any of them.
package mydb
