package cluster

import "time"

// Call is one request that crossed an observed link, as the link core read it: see record.Call.
type Call struct {
	Begin, End time.Time // with a monotonic reading
	Link       Link
	Port       int
	Conn       uint64 // connections of the topology are numbered
	Proto      string // http/1.1 | h2 | grpc
	Method     string
	Path       string
	RequestID  string
	TraceID    string
	Status     int // 0: no answer
	GRPCStatus *int
	Injected   bool // the answer came from a Reply
	Error      string
}

// CallBatch is what was read since the batch before.
type CallBatch struct {
	Calls []Call
	// Read says of each observed link how much of it was read. It is set in the last batch only.
	Read []Observed
	// Err, of the last batch, says why it is not known what else was read.
	Err error
}

// Observed says how much of a link was read. A record of calls is whole where Dropped and Unreadable are 0.
type Observed struct {
	Link       Link
	Calls      uint64 // that were read
	Dropped    uint64 // of them, those that did not come: nobody took them in time, or what carried them was lost
	Unreadable uint64 // connections that could not be read to their end
	Why        string // of the first of these
}

// Reply answers requests of a link in the place of the server: they never reach it. One of HTTP and GRPC is set, and at
// most one of First and Every; without them the Share decides, drawn for each request.
type Reply struct {
	HTTP   *HTTPReply `json:"http,omitempty"`
	GRPC   *GRPCReply `json:"grpc,omitempty"`
	Method string     `json:"method,omitempty"` // a regular expression on the method of HTTP
	Path   string     `json:"path,omitempty"`   // likewise on the path; of gRPC /package.Service/Method
	Share  float64    `json:"share,omitempty"`  // (0,1]
	First  int        `json:"first,omitempty"`  // the first so many requests that match, on all links together
	Every  int        `json:"every,omitempty"`  // each so manyth
	Seed   uint64     `json:"seed,omitempty"`
}

// HTTPReply is an answer of HTTP.
type HTTPReply struct {
	Status     int    `json:"status"` // 400 to 599
	Body       string `json:"body,omitempty"`
	RetryAfter string `json:"retryAfter,omitempty"`
}

// GRPCReply is a status of gRPC. It answers calls of gRPC only.
type GRPCReply struct {
	Code    int    `json:"code"` // 1 to 16
	Message string `json:"message,omitempty"`
}
