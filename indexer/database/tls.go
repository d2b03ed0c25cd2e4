package database

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
)

// tlsRemedy returns what an operator can do if TLS made the connection fail, and ""
// for every other error. Such errors do not go away by waiting.
func tlsRemedy(failed error) string {
	var (
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		other     *tls.CertificateVerificationError // with verify-full: expired, not for servers and so on
		invalid   x509.CertificateInvalidError      // the same with verify-ca, where pgx checks the certificate
	)
	switch {
	case errors.As(failed, &name):
		return "database.sslMode is verify-full: set database.host to a name in the server's certificate, or" +
			" issue a certificate for this name; verify-ca would accept any server of the authority"
	case errors.As(failed, &authority):
		return "database.sslMode requires a certificate of a trusted authority: set PGSSLROOTCERT to the file" +
			" with the authority's certificate"
	case errors.As(failed, &invalid), errors.As(failed, &other):
		return "database.sslMode requires a valid certificate: issue another one for the server"
	// pgx has no type for this error (v5.12.0, pgconn.go, startTLS).
	case strings.Contains(failed.Error(), "server refused TLS connection"):
		return "database.sslMode requires TLS: turn it on in the server (ssl = on), or set disable if the network is trusted"
	}
	return ""
}
