package mtls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/hasvc/gauntlet/hasvc/internal/config"
)

const (
	valid = 30 * 24 * time.Hour // for a topology that is thrown away; a real authority makes them shorter, and again and again
	skew  = time.Hour           // by which clocks may differ
)

// Issue makes an authority and a certificate for each service, and writes them to a directory: ca.pem, SERVICE.pem and
// SERVICE-key.pem. The authority's key is not kept, so all of them are made together.
func Issue(dir string, services []string) error {
	authority, authorityKey, err := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "hasvc"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	if err != nil {
		return err
	}
	for _, service := range services {
		cert, key, err := sign(&x509.Certificate{
			Subject: pkix.Name{CommonName: service}, DNSNames: []string{service}, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}, authority, authorityKey)
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return fmt.Errorf("the key of %s: %w", service, err)
		}
		f := Files(dir, service)
		if err := write(f.Key, "PRIVATE KEY", der, 0o600); err != nil {
			return err
		}
		if err := write(f.Cert, "CERTIFICATE", cert.Raw, 0o644); err != nil {
			return err
		}
	}
	return write(Files(dir, "").CA, "CERTIFICATE", authority.Raw, 0o644)
}

// Files are those of a service that Issue writes to a directory.
func Files(dir, service string) config.TLS {
	return config.TLS{
		Cert: filepath.Join(dir, service+".pem"), Key: filepath.Join(dir, service+"-key.pem"), CA: filepath.Join(dir, "ca.pem"),
	}
}

// sign completes a certificate and signs it with the key of its parent, or with its own.
func sign(cert, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making a key for %s: %w", cert.Subject.CommonName, err)
	}
	if cert.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, nil, fmt.Errorf("making a serial number for %s: %w", cert.Subject.CommonName, err)
	}
	cert.NotBefore, cert.NotAfter = time.Now().Add(-skew), time.Now().Add(valid)
	if parent == nil {
		parent, parentKey = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, fmt.Errorf("signing the certificate of %s: %w", cert.Subject.CommonName, err)
	}
	signed, err := x509.ParseCertificate(der)
	return signed, key, err
}

// write puts a new file in the place of what is there, which may be open to all, or a link to somewhere else.
func write(file, kind string, der []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // for its owner's eyes until it is complete
	if err != nil {
		return err
	}
	if err = errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Chmod(mode), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
