package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// reflectTimeout bounds what a load asks of a service before it starts.
const reflectTimeout = 5 * time.Second

// describe finds the method of each call, PACKAGE.SERVICE/METHOD, in a set of descriptors.
func describe(files *protoregistry.Files, calls []string) (map[string]protoreflect.MethodDescriptor, error) {
	found := map[string]protoreflect.MethodDescriptor{}
	var errs []error
	for _, call := range calls {
		service, method, ok := strings.Cut(call, "/")
		if !ok {
			errs = append(errs, fmt.Errorf("call %q: it is written PACKAGE.SERVICE/METHOD", call))
			continue
		}
		d, err := files.FindDescriptorByName(protoreflect.FullName(service))
		s, isService := d.(protoreflect.ServiceDescriptor)
		if err != nil || !isService {
			errs = append(errs, fmt.Errorf("call %s: there is no service %s; there are: %s", call, service, strings.Join(services(files), ", ")))
			continue
		}
		m := s.Methods().ByName(protoreflect.Name(method))
		if m == nil {
			var names []string
			for i := range s.Methods().Len() {
				names = append(names, string(s.Methods().Get(i).Name()))
			}
			errs = append(errs, fmt.Errorf("call %s: %s has no method %s; it has: %s", call, service, method, strings.Join(names, ", ")))
			continue
		}
		found[call] = m
	}
	return found, errors.Join(errs...)
}

func services(files *protoregistry.Files) []string {
	var names []string
	files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			names = append(names, string(f.Services().Get(i).FullName()))
		}
		return true
	})
	slices.Sort(names)
	return names
}

// readDescriptors reads a FileDescriptorSet, as `protoc -o FILE --include_imports` and `buf build -o FILE` write it.
func readDescriptors(path string) (*protoregistry.Files, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading descriptors: %w", err)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(raw, &set); err != nil || len(set.File) == 0 {
		return nil, fmt.Errorf("%s is no FileDescriptorSet; protoc -o FILE --include_imports writes one", path)
	}
	files, err := assemble(set.File)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return files, nil
}

// assemble makes a registry of files. Those of Google's own types may be left out.
func assemble(all []*descriptorpb.FileDescriptorProto) (*protoregistry.Files, error) {
	set := &descriptorpb.FileDescriptorSet{}
	have := map[string]bool{}
	for _, f := range all {
		have[f.GetName()] = true
	}
	for queue := slices.Clone(all); len(queue) > 0; queue = queue[1:] {
		set.File = append(set.File, queue[0])
		for _, dep := range queue[0].GetDependency() {
			if have[dep] {
				continue
			}
			have[dep] = true
			known, err := protoregistry.GlobalFiles.FindFileByPath(dep)
			if err != nil {
				return nil, fmt.Errorf("%s imports %s, which is not there", queue[0].GetName(), dep)
			}
			queue = append(queue, protodesc.ToFileDescriptorProto(known))
		}
	}
	return protodesc.NewFiles(set)
}

// reflected asks a server for the descriptors of services and of all that they import, by server reflection (grpc.reflection.v1).
func reflected(ctx context.Context, conn *grpc.ClientConn, services []string) (*protoregistry.Files, error) {
	ctx, cancel := context.WithTimeout(ctx, reflectTimeout)
	defer cancel()
	s, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, noReflection(err)
	}
	r := &reflector{stream: s, have: map[string]bool{}}
	var errs []error
	for _, name := range services {
		errs = append(errs, r.ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name}}))
	}
	for i := 0; i < len(r.files); i++ {
		for _, dep := range r.files[i].GetDependency() {
			if r.have[dep] {
				continue
			}
			if _, err := protoregistry.GlobalFiles.FindFileByPath(dep); err == nil && strings.HasPrefix(dep, "google/protobuf/") {
				continue
			}
			errs = append(errs, r.ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileByFilename{FileByFilename: dep}}))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return assemble(r.files)
}

func noReflection(err error) error {
	return fmt.Errorf("asking the service for its descriptors: %w; a service without server reflection needs grpc: {descriptors: FILE}", err)
}

type reflector struct {
	stream grpc.BidiStreamingClient[reflectionv1.ServerReflectionRequest, reflectionv1.ServerReflectionResponse]
	files  []*descriptorpb.FileDescriptorProto
	have   map[string]bool
}

func (r *reflector) ask(q *reflectionv1.ServerReflectionRequest) error {
	what := q.GetFileContainingSymbol() + q.GetFileByFilename()
	// The error of a stream that broke comes with Recv.
	_ = r.stream.Send(q)
	a, err := r.stream.Recv()
	if err != nil {
		return noReflection(err)
	}
	if e := a.GetErrorResponse(); e != nil {
		return fmt.Errorf("the service does not describe %s: %s", what, e.GetErrorMessage())
	}
	for _, raw := range a.GetFileDescriptorResponse().GetFileDescriptorProto() {
		f := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(raw, f); err != nil {
			return fmt.Errorf("the service's description of %s: %w", what, err)
		}
		if !r.have[f.GetName()] {
			r.have[f.GetName()] = true
			r.files = append(r.files, f)
		}
	}
	return nil
}
