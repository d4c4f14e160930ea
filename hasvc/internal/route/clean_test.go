package route

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestClean(t *testing.T) {
	for path, want := range map[string]bool{
		"/": true, "/a": true, "/a/": true, "/a/b": true, "/a/...": true, "/a/..b": true,
		"/a/%2F..": true, "/a/%2e%2e/b": true, "/a%2F%2Fb": true, "/%2F": true, "/%20": true,
		"": false, "*": false, "//": false, "//a": false, "/a//b": false, "/a//": false, "/.": false, "/..": false,
		"/a/.": false, "/a/./": false, "/a/..": false, "/a/../b": false,
	} {
		u, err := url.Parse("http://here")
		require.NoError(t, err)
		if path != "" {
			u, err = url.ParseRequestURI(path)
			require.NoError(t, err)
		}
		assert.Equal(t, want, Clean(u), "%q", path)
		checkMux(t, u)
	}
}

// What is clean is what the mux does not redirect.
func FuzzClean(f *testing.F) {
	f.Add("/a/%2F../b")
	f.Add("//a/./")
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			t.Skip("no path")
		}
		checkMux(t, u)
	})
}

func checkMux(t *testing.T, u *url.URL) {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, &http.Request{Method: http.MethodPost, URL: u})
	assert.Equal(t, w.Code == http.StatusOK, Clean(u), "%v", u)
}
