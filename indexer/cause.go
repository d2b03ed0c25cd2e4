package indexer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
)

// A Cause says why a request got no complete answer.
type Cause struct {
	Public string // what the other side did, such as "did not answer in time"
	Detail string // more for the log, with addresses; may be ""
}

// CauseOf classifies an error of net/http. If the text of the error may quote what the other
// side sent, such as a header, Detail is the type of the error instead.
func CauseOf(err error) Cause {
	var (
		name    *net.DNSError
		op      *net.OpError
		network net.Error
	)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return Cause{"did not answer in time", at(err)}
	case errors.As(err, &name):
		return Cause{"cannot be reached", "no address for " + name.Name}
	case untrusted(err):
		return Cause{"shows a certificate that is not trusted", certificateError(err)}
	case errors.Is(err, http.ErrSchemeMismatch):
		return Cause{"does not speak TLS", "it answered https with plain HTTP"}
	case errors.As(err, &op) && op.Op == "dial":
		return Cause{"cannot be reached", at(err)}
	case errors.As(err, &op), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Cause{"closed the connection", at(err)}
	}
	return Cause{"sent an answer that is not HTTP", fmt.Sprintf("%T", Innermost(err))}
}

// at returns the addresses of a failed connection and the system's error.
func at(err error) string {
	var op *net.OpError
	if !errors.As(err, &op) {
		return ""
	}
	text := op.Op
	if op.Addr != nil {
		text += " " + op.Addr.String()
	}
	var number syscall.Errno
	if errors.As(err, &number) {
		text += ": " + number.Error()
	}
	return text
}

func untrusted(err error) bool { return certificateError(err) != "" }

// certificateError returns the text of an error about a certificate, with names of
// hosts and issuers, or "" for any other error.
func certificateError(err error) string {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		host         x509.HostnameError
		certificate  x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &authority):
		return authority.Error()
	case errors.As(err, &host):
		return host.Error()
	case errors.As(err, &certificate):
		return certificate.Error()
	case errors.As(err, &verification):
		return "tls: certificate not verified"
	}
	return ""
}

// Innermost returns the error at the end of the chain of Unwrap.
func Innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
