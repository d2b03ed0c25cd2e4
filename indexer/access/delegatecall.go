package access

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"

	"github.com/portbook/portbook/indexer"
)

// authorized asks the API whether a client has a permission in a project.
func (d *Delegate) authorized(ctx context.Context, field, project string, p Permission) verdict {
	var result struct {
		Authorized bool
		Project    struct{ BillingAccount struct{ Active bool } }
	}
	ok, err := d.call(ctx, "me.authorized", field, struct {
		Project     string       `json:"project"`
		Permissions []Permission `json:"permissions"`
	}{project, []Permission{p}}, &result)
	return verdict{yes: ok && result.Authorized && result.Project.BillingAccount.Active, err: err}
}

// me asks the API who a client is.
func (d *Delegate) me(ctx context.Context, field string) verdict {
	var result struct{ Email string }
	ok, err := d.call(ctx, "me.get", field, struct{}{}, &result)
	unusual := func(r rune) bool { return !unicode.IsPrint(r) }
	if len(result.Email) > maxEmail || strings.ContainsFunc(result.Email, unusual) {
		result.Email = ""
	}
	return verdict{yes: ok, email: result.Email, err: err}
}

// call calls a method of the API, and reports whether it answers ok. No answer, or one that is
// none, is ErrUnsure.
func (d *Delegate) call(ctx context.Context, method, field string, params, result any) (ok bool, err error) {
	done, err := d.turns.take(ctx, field)
	if err != nil {
		return false, fmt.Errorf("%w (too many calls wait for the API)", ErrUnsure)
	}
	defer done()
	status, body, err := d.post(ctx, method, field, params)
	if err == nil {
		ok, err = readAnswer(status, body, result)
	}
	if d.silent.Swap(err != nil) != (err != nil) {
		d.report(ctx, method, err)
	}
	if err != nil {
		return false, fmt.Errorf("%w (%w)", ErrUnsure, err)
	}
	return ok, nil
}

// report logs that the API has ceased to answer, or answers again.
func (d *Delegate) report(ctx context.Context, method string, err error) {
	if err == nil {
		d.config.Log.InfoContext(ctx, "the API of auth.delegate.url answers again")
		return
	}
	d.config.Log.WarnContext(ctx, "the API of auth.delegate.url does not answer, so clients are refused",
		"method", method, "error", err)
}

// post sends a call and returns the status and the body of the answer.
func (d *Delegate) post(ctx context.Context, method, field string, params any) (status int, body []byte, err error) {
	sent, err := json.Marshal(params)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.config.URL+"/"+method, bytes.NewReader(sent))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if field != "" {
		req.Header.Set("Authorization", field)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return 0, nil, failure(err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxDelegateAnswer+1))
	if err != nil {
		return 0, nil, failure(err)
	}
	return resp.StatusCode, body, nil
}

// failure returns the error of a call without an answer, which quotes nothing of it.
func failure(err error) error {
	c := indexer.CauseOf(err)
	if c.Detail == "" {
		return errors.New("it " + c.Public)
	}
	return fmt.Errorf("it %s (%s)", c.Public, c.Detail)
}

// readAnswer reads an answer of the API, and reports whether it is ok. 401 and 403 are answers
// too: no. Anything else is none, such as 500, or 404 for a wrong address.
func readAnswer(status int, body []byte, result any) (ok bool, err error) {
	var answer struct {
		OK     *bool
		Result json.RawMessage
	}
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return false, nil
	case status != http.StatusOK:
		return false, fmt.Errorf("it answered with status %d", status)
	case len(body) > maxDelegateAnswer:
		return false, fmt.Errorf("its answer has more than %d bytes", maxDelegateAnswer)
	case json.Unmarshal(body, &answer) != nil || answer.OK == nil:
		return false, errors.New("its answer is not an object with ok")
	case !*answer.OK:
		return false, nil
	case json.Unmarshal(answer.Result, result) != nil:
		return false, errors.New("the result in its answer has another form")
	}
	return true, nil
}
