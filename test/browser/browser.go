package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// stepTimeout limits one action and the page that it opens.
const stepTimeout = 30 * time.Second

// phone is the maximum width, in pixels, that is emulated as a phone: scrollbars cover
// the page, and the viewport's meta element takes effect.
const phone = 480

// chromium is the command of Debian's browser.
const chromium = "chromium"

// startBrowser starts a headless browser and returns a context for newTab.
func startBrowser(ctx context.Context) (context.Context, context.CancelFunc, error) {
	path, err := exec.LookPath(chromium)
	if err != nil {
		return nil, nil, err
	}
	// chromedp turns the sandbox off for root, who cannot use it.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path))
	allocator, stop := chromedp.NewExecAllocator(ctx, options...)
	browser, closeBrowser := chromedp.NewContext(allocator)
	end := func() {
		closeBrowser()
		stop()
	}
	if err := chromedp.Do(browser); err != nil {
		end()
		return nil, nil, fmt.Errorf("start %s: %w", path, err)
	}
	return browser, end, nil
}

// A tab is a tab of the browser with its own, empty cache. Only one goroutine may use
// it.
type tab struct {
	ctx   context.Context
	close context.CancelFunc

	noScript bool
	used     bool // whether a page was opened

	mu   sync.Mutex
	view *view // what is being recorded
}

func newTab(browser context.Context) (*tab, error) {
	t := &tab{view: newView()}
	t.ctx, t.close = chromedp.NewContext(browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(t.record))
	if err := chromedp.Do(t.ctx); err != nil {
		t.close()
		return nil, err
	}
	return t, nil
}

// A view has the requests and complaints of opening a page once.
type view struct {
	status     int // of the page
	requests   map[network.RequestID]*request
	order      []network.RequestID
	complaints []complaint
}

// A request is the request for a page, or one that the page made.
type request struct {
	url    string
	page   bool    // whether it is for a page, and not for what a page needs
	status int     // on the wire; 0 if the answer came from the cache
	etag   string  // on the wire
	bytes  float64 // on the wire, with headers
}

// A complaint is an error or warning of the browser or of the page's script.
type complaint struct{ text, url string }

func newView() *view { return &view{requests: map[network.RequestID]*request{}} }

func (v *view) of(id network.RequestID) *request {
	r := v.requests[id]
	if r == nil {
		r = &request{}
		v.requests[id], v.order = r, append(v.order, id)
	}
	return r
}

// record handles an event of the browser. It runs in the goroutine that reads the
// browser's messages, so it must not send any.
func (t *tab) record(event any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.view
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		r := v.of(e.RequestID)
		r.url, r.page = e.Request.URL, e.Type == network.ResourceTypeDocument
	case *network.EventResponseReceivedExtraInfo:
		r := v.of(e.RequestID)
		r.status, r.etag = int(e.StatusCode), header(e.Headers, "etag")
	case *network.EventDataReceived:
		v.of(e.RequestID).bytes += float64(e.EncodedDataLength)
	case *network.EventLoadingFinished:
		v.of(e.RequestID).bytes = e.EncodedDataLength
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.EntryLevelError || e.Entry.Level == cdplog.EntryLevelWarning {
			v.complaints = append(v.complaints, complaint{e.Entry.Text, e.Entry.URL})
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			v.complaints = append(v.complaints, complaint{text: "console message of the page: " + said(e.Args)})
		}
	case *runtime.EventExceptionThrown:
		thrown := said([]*runtime.RemoteObject{e.ExceptionDetails.Exception})
		v.complaints = append(v.complaints, complaint{text: "exception in the page: " + e.ExceptionDetails.Text + " " + thrown})
	case *cdppage.EventJavascriptDialogOpening:
		v.complaints = append(v.complaints, complaint{text: "a dialog opened: " + e.Message})
	}
}

// header returns a field of a response. The case of the name does not matter.
func header(h network.Headers, name string) string {
	for key, value := range h {
		if strings.EqualFold(key, name) {
			return fmt.Sprint(value)
		}
	}
	return ""
}

// said returns the arguments of a console call as one line.
func said(args []*runtime.RemoteObject) string {
	var words []string
	for _, a := range args {
		if a != nil {
			words = append(words, strings.TrimSpace(a.Description+" "+string(a.Value)))
		}
	}
	return strings.Join(words, " ")
}

// open opens an address, waits until the page and its resources are loaded, and
// returns what happened meanwhile.
func (t *tab) open(address string) (*view, error) {
	// Opening the same address again would be a reload, which bypasses the cache.
	if t.used {
		if err := t.do(chromedp.Navigate("about:blank")); err != nil {
			return nil, err
		}
	}
	t.used = true
	t.mu.Lock()
	t.view = newView()
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.ctx, stepTimeout)
	defer cancel()
	resp, err := chromedp.Run(ctx, chromedp.NavigateResponse(address))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	if err := t.settle(); err != nil {
		return nil, fmt.Errorf("%s: %w", address, err)
	}
	v := t.taken()
	v.status = int(resp.Status)
	return v, nil
}

// taken returns what happened since the view began, and begins another for later events.
// The status is that of the first answer.
func (t *tab) taken() *view {
	t.mu.Lock()
	defer t.mu.Unlock()
	v := t.view
	t.view = newView()
	if id, found := v.page(); found {
		v.status = v.requests[id].status
	}
	return v
}

// page returns the request for the page of a view. A late answer to a request of the view before
// may have come earlier.
func (v *view) page() (network.RequestID, bool) {
	for _, id := range v.order {
		if v.requests[id].page {
			return id, true
		}
	}
	return "", false
}

// source returns the text of a page that was just opened, as it came.
func (t *tab) source(v *view) ([]byte, error) {
	id, found := v.page()
	if !found {
		return nil, fmt.Errorf("%s: no request was seen", t.where())
	}
	body, err := call(t, network.GetResponseBody, network.GetResponseBodyParams{RequestID: id})
	return body.Body, err
}

// settle waits until a loaded page has been drawn twice. By then its script has sent
// its first requests, and the browser its complaints. Without script there is nothing
// to wait for, and no way to wait.
func (t *tab) settle() error {
	if t.noScript {
		return nil
	}
	const drawn = `new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50, true))))`
	_, err := evaluate[bool](t, drawn)
	return err
}

// do runs actions, for so long.
func (t *tab) do(actions ...chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(t.ctx, stepTimeout)
	defer cancel()
	return chromedp.Do(ctx, actions...)
}

// evaluate returns the value of a JavaScript expression in the page, and waits for a
// promise. It works in spite of the page's policy and with script turned off.
func evaluate[T any](t *tab, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(t.ctx, stepTimeout)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// until waits until an expression is true in the page. The page's policy does not
// allow chromedp's polling.
func (t *tab) until(expression string) error {
	_, err := evaluate[bool](t, `new Promise(done => (function look() { (`+expression+`) ? done(true) : requestAnimationFrame(look) })())`)
	if err != nil {
		return fmt.Errorf("%s: waited for %s: %w", t.where(), expression, err)
	}
	return nil
}

// call sends a command to the tab.
func call[P, R any](t *tab, command cdp.Command[P, R], params P) (R, error) {
	ctx, cancel := context.WithTimeout(t.ctx, stepTimeout)
	defer cancel()
	return chromedp.Run(ctx, func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, params)
	})
}

// A look is a width and a theme in which pages are shown.
type look struct {
	width    int
	dark     bool
	noScript bool
}

func (l look) theme() string {
	if l.dark {
		return "dark"
	}
	return "light"
}

func (l look) String() string {
	text := fmt.Sprintf("%d px, %s", l.width, l.theme())
	if l.noScript {
		text += ", without script"
	}
	return text
}

// as changes the look of the tab and of the open page.
func (t *tab) as(l look) error {
	t.noScript = l.noScript
	_, err := call(t, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: int64(l.width), Height: 900, DeviceScaleFactor: 1, Mobile: l.width <= phone,
	})
	if err != nil {
		return err
	}
	_, err = call(t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: l.theme()},
		{Name: "prefers-reduced-motion", Value: "reduce"}, // pictures must not depend on the moment
	}})
	if err != nil {
		return err
	}
	_, err = call(t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: l.noScript})
	return err
}

// inFront makes the tab behave as if it were the active one: it keeps the focus and may
// read the clipboard.
func (t *tab) inFront() error {
	_, err := call(t, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	return err
}

// An element is an element of the accessibility tree.
type element struct {
	role, name string
	node       cdp.BackendNodeID
}

// elements returns the elements with a role, in the order of the page.
func (t *tab) elements(role string) ([]element, error) {
	document, err := t.object("document")
	if err != nil {
		return nil, err
	}
	tree, err := call(t, accessibility.QueryAXTree, accessibility.QueryAXTreeParams{ObjectID: document, Role: role})
	if err != nil {
		return nil, err
	}
	var list []element
	for _, n := range tree.Nodes {
		if !n.Ignored {
			list = append(list, elementOf(n))
		}
	}
	return list, nil
}

// focused returns the element that has the focus.
func (t *tab) focused() (element, error) {
	active, err := t.object("document.activeElement")
	if err != nil {
		return element{}, err
	}
	alone := false
	params := accessibility.GetPartialAXTreeParams{ObjectID: active, FetchRelatives: &alone}
	tree, err := call(t, accessibility.GetPartialAXTree, params)
	if err != nil {
		return element{}, err
	}
	for _, n := range tree.Nodes {
		if !n.Ignored {
			return elementOf(n), nil
		}
	}
	html, err := evaluate[string](t, "document.activeElement.outerHTML.slice(0, 100)")
	return element{}, errors.Join(fmt.Errorf("%s: the focused element is hidden from assistive technology: %s", t.where(), html), err)
}

func (t *tab) object(expression string) (runtime.RemoteObjectID, error) {
	result, err := call(t, runtime.Evaluate, runtime.EvaluateParams{Expression: expression})
	if err != nil {
		return "", err
	}
	return result.Result.ObjectID, nil
}

func elementOf(n *accessibility.Node) element {
	return element{role: text(n.Role), name: text(n.Name), node: n.BackendDOMNodeID}
}

// text returns a value that is a string, or "".
func text(v *accessibility.Value) (s string) {
	if v != nil {
		_ = json.Unmarshal(v.Value, &s)
	}
	return strings.TrimSpace(s)
}

// element returns the element with a role and a name. If there is none, it returns the
// first whose name contains the name, because a row that is a link has a longer name.
func (t *tab) element(role, name string) (element, error) {
	list, err := t.elements(role)
	if err != nil {
		return element{}, err
	}
	for _, same := range []func(string) bool{
		func(s string) bool { return s == name },
		func(s string) bool { return strings.Contains(s, name) },
	} {
		for _, e := range list {
			if same(e.name) {
				return e, nil
			}
		}
	}
	var names []string
	for _, e := range list {
		names = append(names, e.name)
	}
	return element{}, fmt.Errorf("%s has no %s with the name %q, but %q", t.where(), role, name, names)
}

// click clicks an element and waits for the page that follows.
func (t *tab) click(e element) error {
	click, err := t.clickOn(e)
	if err != nil {
		return err
	}
	return t.leave(click)
}

// clickOn clicks at the position of an element.
func (t *tab) clickOn(e element) (chromedp.Action[chromedp.Void], error) {
	if _, err := call(t, dom.ScrollIntoViewIfNeeded, dom.ScrollIntoViewIfNeededParams{BackendNodeID: e.node}); err != nil {
		return nil, fmt.Errorf("%s %q is not visible: %w", e.role, e.name, err)
	}
	quads, err := call(t, dom.GetContentQuads, dom.GetContentQuadsParams{BackendNodeID: e.node})
	if err != nil {
		return nil, err
	}
	if len(quads.Quads) == 0 {
		return nil, fmt.Errorf("%s %q has no area", e.role, e.name)
	}
	q := quads.Quads[0] // the first line of a link that has two
	return chromedp.MouseClickXY((q[0]+q[4])/2, (q[1]+q[5])/2), nil
}

// keys presses keys with the events of a real keyboard. If the page prevents the
// default of keydown, a key types nothing, and Enter does not submit.
func keys(text string) chromedp.Action[chromedp.Void] {
	return chromedp.KeyEvent(text, func(k *input.DispatchKeyEventParams) {
		if k.Type == kb.KeyDown {
			k.Type = input.DispatchKeyEventTypeRawKeyDown
		}
	})
}

// leave runs actions that open another page, and waits for it.
func (t *tab) leave(action chromedp.Action[chromedp.Void]) error {
	ctx, cancel := context.WithTimeout(t.ctx, stepTimeout)
	defer cancel()
	from := t.where()
	if _, err := chromedp.RunResponse(ctx, action); err != nil {
		return fmt.Errorf("from %s: %w", from, err)
	}
	return t.settle()
}

// where returns the path and the query of the page.
func (t *tab) where() string {
	ctx, cancel := context.WithTimeout(t.ctx, stepTimeout)
	defer cancel()
	address, err := chromedp.Run(ctx, chromedp.Location())
	if err != nil {
		return err.Error()
	}
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.RequestURI()
}

// at fails if the tab is at another address.
func (t *tab) at(want string) error {
	if got := t.where(); got != want {
		return fmt.Errorf("got address %s, want %s", got, want)
	}
	return nil
}

// hasText returns an error unless a text is visible.
func (t *tab) hasText(want string) error {
	yes, err := evaluate[bool](t, fmt.Sprintf("document.body.innerText.includes(%q)", want))
	if err == nil && !yes {
		err = fmt.Errorf("%s does not show %q", t.where(), want)
	}
	return err
}

// typeInto clicks a box and types.
func (t *tab) typeInto(box element, text string) error {
	if _, err := call(t, dom.Focus, dom.FocusParams{BackendNodeID: box.node}); err != nil {
		return err
	}
	return t.do(keys(text))
}
