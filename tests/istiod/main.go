// Says of CA bundles whether istiod would take them. istiod asks Go's own libraries: the CA's certificate must lead to a
// root through the chain, the first block of the key's file must be a key, and key and certificate must be a pair.
//
// Arguments: the time (seconds since 1970), then directories, each with the files of a Secret cacerts.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	seconds, err := strconv.ParseInt(os.Args[1], 10, 64)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for _, dir := range os.Args[2:] {
		if err := judge(dir, time.Unix(seconds, 0)); err != nil {
			fmt.Println("no:", err)
		} else {
			fmt.Println("yes")
		}
	}
}

func judge(dir string, now time.Time) error {
	certificate, key, roots, chain, err := files(dir)
	if err != nil {
		return err
	}
	block, _ := pem.Decode(certificate)
	if block == nil {
		return errors.New("no certificate in PEM")
	}
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	trusted, shown := x509.NewCertPool(), x509.NewCertPool()
	trusted.AppendCertsFromPEM(roots)
	shown.AppendCertsFromPEM(chain)
	options := x509.VerifyOptions{Roots: trusted, Intermediates: shown, CurrentTime: now}
	if _, err := parsed.Verify(options); err != nil {
		return err
	}
	if err := readKey(key); err != nil {
		return err
	}
	_, err = tls.X509KeyPair(certificate, key)
	return err
}

// files reads the form that is there: kubernetes.io/tls comes first.
func files(dir string) (certificate, key, roots, chain []byte, err error) {
	names := []string{"ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"}
	if _, missing := os.Stat(filepath.Join(dir, "tls.crt")); missing == nil {
		names = []string{"tls.crt", "tls.key", "ca.crt"}
	}
	var read [4][]byte
	for index, name := range names {
		if read[index], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return nil, nil, nil, nil, err
		}
	}
	if len(names) == 3 {
		read[3] = append(append([]byte{}, read[0]...), read[2]...)
	}
	return read[0], read[1], read[2], read[3], nil
}

func readKey(text []byte) error {
	block, _ := pem.Decode(text)
	if block == nil {
		return errors.New("no key in PEM")
	}
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		_, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		_, err = x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		_, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		err = fmt.Errorf("a block %q where the key belongs", block.Type)
	}
	return err
}
