// Package inventoryv1 is the gRPC interface of inventory, generated from inventory.proto.
package inventoryv1

// Made as ordersv1 is; see there.
//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative inventory.proto
