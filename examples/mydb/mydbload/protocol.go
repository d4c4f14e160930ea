package main

// command is what the harness asks for, a line each.
type command struct {
	Type string `json:"type"` // start | stop | verify
	Run  string `json:"run"`
}

func (c command) prefix() string { return c.Run }

// reply is what is answered, a line each.
type reply struct {
	Type    string `json:"type"`              // hello | op | done
	Version int    `json:"version,omitempty"` // of hello
	Op      string `json:"op,omitempty"`      // insert; of verify: read
	Client  int    `json:"client,omitempty"`
	Key     string `json:"key,omitempty"`
	Value   string `json:"value,omitempty"`
	Member  string `json:"member,omitempty"`
	Found   *bool  `json:"found,omitempty"`
	Count   int    `json:"count,omitempty"`
	Call    int64  `json:"call,omitempty"`
	Return  int64  `json:"return,omitempty"`
	Outcome string `json:"outcome,omitempty"`
	Error   string `json:"error,omitempty"`
}
