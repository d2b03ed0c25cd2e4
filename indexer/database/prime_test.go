package database_test

import (
	"strings"
	"testing"

	"github.com/portbook/portbook/indexer/database"
)

// A name that PostgreSQL would change or refuse must be refused with the reason.
func TestUserCheck(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, says string }{
		{"app", ""},
		{`o'brien "x" ` + "\n", ""},
		{strings.Repeat("ö", 31) + "x", ""},
		{"", "is empty"},
		{strings.Repeat("ö", 32), "has 64 bytes: PostgreSQL allows 63"},
		{"a\xff", "is not text"},
		{"a\x00b", "is not text"},
	} {
		err := database.User{Name: test.name}.Check()
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%q: got %v, want %q", test.name, err, test.says)
		}
	}
}

// The user to whom the tables belong must not lose a right by accident.
func TestCheckUser(t *testing.T) {
	t.Parallel()
	cs, _ := parse(t, "postgres://u:p@h/d", "PORTBOOK_DATABASE_MIGRATIONUSER=m")
	for _, test := range []struct {
		user database.User
		ok   bool
	}{
		{database.User{Name: "u"}, true},
		{database.User{Name: "m"}, false},
		{database.User{Name: "m", Reader: true}, false},
		{database.User{Name: "m", Migration: true}, true},
	} {
		if err := cs.CheckUser(test.user); (err == nil) != test.ok {
			t.Errorf("%+v: %v", test.user, err)
		}
	}
}

// A password that clients may write in different ways must be refused.
func TestPrimeScriptRefusesPasswords(t *testing.T) {
	t.Parallel()
	cs, _ := parse(t, "postgres://u:p@h/d")
	for _, password := range []string{"", strings.Repeat("x", database.PasswordLimit+1), "a\xff", "a\u00a0b", "\ufb01ne", "a\x00", "a\u00adb"} {
		if script, err := cs.PrimeScript(database.User{Name: "app"}, password); err == nil {
			t.Errorf("%.20q gives %.80q", password, script)
		}
	}
}

// A script must create a user who can log in, set the password of one who exists, and
// not show the password.
func TestRunPrimeScript(t *testing.T) {
	t.Parallel()
	execute(t, "postgres", "CREATE DATABASE primed")
	cs, _ := parse(t, serverURL(t, "primed", "", ""))
	user := database.User{Name: `odd "user'`}
	for _, password := range []string{"pä ss", "another"} {
		script, err := cs.PrimeScript(user, password)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(script, password) {
			t.Errorf("the script shows %q", password)
		}
		if err := cs.RunPrimeScript(t.Context(), script); err != nil {
			t.Fatal(err)
		}
		if err := connect(t, serverURL(t, "primed", user.Name, password)); err != nil {
			t.Errorf("cannot log in with %q: %v", password, err)
		}
	}
	if connect(t, serverURL(t, "primed", user.Name, "pä ss")) == nil {
		t.Error("the first password is still valid")
	}
}

// A migrating user without the right to create roles must be told what to do, and a
// script for another database must change nothing.
func TestRunPrimeScriptRefused(t *testing.T) {
	t.Parallel()
	execute(t, "postgres", "CREATE DATABASE unprimed")
	execute(t, "postgres", "CREATE ROLE powerless LOGIN PASSWORD 'p'")
	super, _ := parse(t, serverURL(t, "unprimed", "", ""))
	script, err := super.PrimeScript(database.User{Name: "nobody"}, "secret")
	if err != nil {
		t.Fatal(err)
	}
	powerless, _ := parse(t, serverURL(t, "unprimed", "powerless", "p"))
	err = powerless.RunPrimeScript(t.Context(), script)
	if err == nil || !strings.Contains(err.Error(), `ALTER ROLE "powerless" CREATEROLE`) {
		t.Errorf("got %v, want a remedy", err)
	}
	elsewhere, _ := parse(t, serverURL(t, "postgres", "", ""))
	err = elsewhere.RunPrimeScript(t.Context(), script)
	if err == nil || !strings.Contains(err.Error(), "the configuration names unprimed") {
		t.Errorf("in another database: %v", err)
	}
	if connect(t, serverURL(t, "unprimed", "nobody", "secret")) == nil {
		t.Error("the user was created")
	}
	wrong, _ := parse(t, serverURL(t, "unprimed", "powerless", "wrong"))
	if err := wrong.RunPrimeScript(t.Context(), script); err == nil || !strings.Contains(err.Error(), "no connection to the database as powerless@") {
		t.Errorf("with a wrong password: %v", err)
	}
}
