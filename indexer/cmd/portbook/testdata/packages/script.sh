# A session with a registry of packages at $P, by curl and git: what the client of pesde sends, and
# what web sites read. One token, t, reads and writes.
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
export GIT_CONFIG_GLOBAL=/dev/null
index=$P/index packages=$P/v1/packages foo=$P/v1/packages/acme%2Ffoo
token='Authorization: Bearer t'

call() { curl -s -w ' %{http_code}\n' -H "$token" "$@"; }
pack() { (cd d && tar czf ../p.tgz -- *); }
publish() { call -H Content-Type: --data-binary @p.tgz "$packages"; }

# make VERSION TARGET DESCRIPTION [LINE...]: an archive of acme/foo in p.tgz, with more lines in
# its manifest.
make() {
	rm -rf d && mkdir -p d/src d/docs
	echo return >d/src/i.luau
	echo '# Foo' >d/README.md
	echo '# Intro' >d/docs/intro.md
	printf '%s\n' 'name="acme/foo"' "version=\"$1\"" "description=\"$3\"" '[target]' "environment=\"$2\"" \
		'lib="src/i.luau"' "${@:4}" >d/pesde.toml
	pack
}

echo "== the index"
git clone -q --bare "$index" i && cat i/HEAD && git -C i show HEAD:config.toml | sed "s,$P,URL,"
curl -sD- -o /dev/null "$index/info/refs?service=git-upload-pack" | grep -i '^content-type' | tr -d '\r'
curl -s -H 'Git-Protocol: version=2' "$index/info/refs?service=git-upload-pack" | grep -a 'version 2'
call "$index/info/refs?service=git-receive-pack"

echo "== publish"
make 1.0.0 luau d && cp p.tgz first && publish && publish
make 1.0.0 roblox other 'build_files=["src"]' && publish
make 1.0.0 roblox d 'build_files=["src"]' && publish
make 1.0.0+b.1 luau d && publish
git -C i fetch -q origin +main:main && git -C i log --format=%s main && git -C i show main:acme/scope.toml
curl -sL "$foo/1.0.0/luau/archive" | cmp - first && echo same
curl -s "$foo/1.0.0%2Bb.1/luau/archive" | cmp - p.tgz && echo same
curl -sI "$foo/1.0.0/luau/archive" | grep -iE '^(content-(type|encoding|length)|cache-)' | tr -d '\r' | sed 's/ength: .*/ength: N/' | sort
curl -s -o /dev/null -w '%{http_code}\n' -H "If-None-Match: $(curl -sI "$foo/1.0.0/luau/archive" | sed -n 's/^[Ee][Tt]ag: //p' | tr -d '\r')" "$foo/1.0.0/luau/archive"

echo "== refused"
make 2.0.0 luau d && touch d/rokit.toml && pack && publish
echo x >p.tgz && publish
make 2.0.0 luau d '[dependencies]' 'x={path="../x"}' && publish
make 2.0.0 luau d '[dependencies]' 'x={name="a_b/c",version="^1",index="https://o/i"}' && publish
head -c 5000000 /dev/zero >p.tgz && publish
token='Authorization: Bearer wrong' && publish
token='Authorization: t'

echo "== yank and deprecate"
call -X PUT "$foo/1.0.0/all/yank"
call -X PUT "$foo/1.0.0/luau/yank"
call -X PUT "$foo/1.0.0%2Bb.1/luau/yank"
curl -s "$P/v1/search?query=foo"
call -X DELETE "$foo/1.0.0/luau/yank"
for reason in ' ' ' use bar ' 'use bar'; do call -X PUT -d "$reason" "$foo/deprecate"; done
curl -s "$P/v1/search?query=foo"
git -C i fetch -q origin +main:main && git -C i show main:acme/foo | grep -E 'deprec|yanked'
call -X DELETE "$foo/deprecate"
call -X PUT "$packages/nope%2Fx/1.0.0/all/yank"
call -X PUT "$foo/9.9.9/all/yank"
call -X PUT "$foo/latest/all/yank"
call -X POST "$foo/1.0.0/all/yank"

echo "== read"
for version in 1.1.0 2.0.0-rc.1; do make $version luau d && publish; done
publish
publish
curl -s "$foo" | head -c 60 && echo
curl -s "$foo/latest/any"
curl -s "$P/v1/search?query=FOO"
curl -s "$foo/1.0.0/any"
curl -sL "$P/v0/packages/acme%2Ffoo/" | head -c 40 && echo
curl -s --compressed "$foo/latest/any/doc?doc=intro" && echo
curl -s "$foo/latest/any/readme"
curl -s -H 'Accept: text/plain' "$P/v0/packages/acme%2Ffoo/latest/any"
curl -s -H 'Accept: application/octet-stream' "$P/v0/packages/acme%2Ffoo/1.0.0/luau" | cmp - first && echo same
call "$P/v1/search?query=name:"
for path in /acme/foo /nope%2Fx /acme%2Ffoo/9.9.9/luau /acme%2Ffoo/1.0.0/lune/archive /acme%2Ffoo/1.0.0/linux/archive \
	/acme%2Ffoo/1.x/luau /acme%2Ffoo/1.0.0/luau/doc /acme%2Ffoo/1.0.0/luau/doc?doc=nope; do
	call "$packages$path"
done
