package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"unicode/utf8"
)

// decode reads a JSON object into v, from a body that is there already: no unknown fields, nothing after it. The error is a problem.
func decode(r *http.Request, v any) error {
	mt, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mt != "application/json" {
		return problem(http.StatusUnsupportedMediaType, "the body must be application/json")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	return decodeBody(body, v)
}

func decodeBody(body []byte, v any) error {
	if !utf8.Valid(body) {
		return problem(http.StatusBadRequest, "the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return problem(http.StatusBadRequest, "the body is not what is expected: "+err.Error())
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return problem(http.StatusBadRequest, "there is something after the JSON object")
	}
	return nil
}

// text refuses what gRPC cannot carry in a string.
func text(what, s string) error {
	if !utf8.ValidString(s) {
		return problem(http.StatusBadRequest, what+" is not UTF-8")
	}
	return nil
}
