// Package mtls encrypts what services say to each other over gRPC, and proves to each who the other is (mutual TLS). A certificate
// is in the name of a service, not of a host: replicas come and go, and are found by addresses.
package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
)

// Server is what a replica proves to its callers, and asks of them: a certificate of the same authority. Without files it is
// plain text.
func Server(f config.TLS) (credentials.TransportCredentials, error) {
	return secured(f, func(c *tls.Config) { c.ClientAuth = tls.RequireAndVerifyClientCert })
}

// Client is what a caller of a service proves, and asks of it: a certificate in the service's name.
func Client(f config.TLS, service string) (credentials.TransportCredentials, error) {
	return secured(f, func(c *tls.Config) { c.ServerName = service })
}

func secured(f config.TLS, side func(*tls.Config)) (credentials.TransportCredentials, error) {
	if !f.On() {
		return insecure.NewCredentials(), nil
	}
	own, authority, err := load(f)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own}, RootCAs: authority, ClientCAs: authority}
	side(c)
	return credentials.NewTLS(c), nil
}

func load(f config.TLS) (own tls.Certificate, authority *x509.CertPool, err error) {
	if own, err = tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
		return own, nil, fmt.Errorf("reading the certificate of HASVC_TLS_CERT and its HASVC_TLS_KEY: %w", err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return own, nil, fmt.Errorf("reading HASVC_TLS_CA: %w", err)
	}
	authority = x509.NewCertPool()
	if !authority.AppendCertsFromPEM(pem) {
		return own, nil, errors.New("reading HASVC_TLS_CA: " + f.CA + " holds no certificate in PEM")
	}
	return own, authority, nil
}
