// Package route is about the paths of HTTP requests.
package route

import (
	"net/url"
	"path"
	"strings"
)

// Clean reports whether net/http's ServeMux takes a path as it is. Other paths it answers by itself, with a redirect that has none of
// the service's ids, and no client of an API expects one: ask this first.
func Clean(u *url.URL) bool {
	p := u.EscapedPath() // an encoded slash or dot is part of a name
	c := strings.TrimSuffix(path.Clean(p), "/")
	return strings.HasPrefix(p, "/") && (p == c || p == c+"/")
}
