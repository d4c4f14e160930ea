// Package ordersv1 is the gRPC interface of orders, generated from orders.proto.
package ordersv1

// The generated code is checked in, so that building needs no protoc. To make it again: protoc 3.21 (Debian's
// protobuf-compiler), `go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12
// google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2`, then `go generate ./hasvc/...`.
//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative orders.proto
