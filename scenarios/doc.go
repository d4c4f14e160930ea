// Package scenarios reads scenario files and compiles them, with a seed, into a plan.Plan. Beside it stand the scenarios
// and topologies that ship with Gauntlet; they are embedded (Shipped).
//
// The way of a file: Parse (syntax, keys, types) -> File.Validate (names and sense, against the topology) -> Compile
// (draws everything random). Load does all three. Every step returns all its errors at once, each an *Error with its
// place in the file.
//
// Compile is a pure function of (scenario, topology, seed). Each value is drawn from a generator of its own, seeded with
// (seed, round, fault, occurrence, name of the value), so that adding a fault does not change what another one draws.
package scenarios
