package config

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// urls is a list of https URLs, each of which may stand for several files:
// https://example.com/{ipv4,ipv6}.csv.
type urls struct{ p *[]string }

const (
	maxURLs  = 16 // mirrors
	maxParts = 8  // files that one URL stands for
)

func (v urls) text() string    { return flow(*v.p, strconv.Quote) }
func (v urls) grammar() string { return "list of https URLs" }
func (v urls) schema() object {
	item := object{"type": "string", "pattern": "^https://."}
	return object{"type": []string{"array", "null"}, "items": item, "maxItems": maxURLs, "uniqueItems": true}
}

// expand returns the URLs that u stands for: itself, or one for each word in its
// braces.
func expand(u string) []string {
	before, rest, found := strings.Cut(u, "{")
	words, after, closed := strings.Cut(rest, "}")
	if !found || !closed {
		return []string{u}
	}
	var res []string
	for word := range strings.SplitSeq(words, ",") {
		res = append(res, before+word+after)
	}
	return res
}

func (v urls) decode(d *decoder, path string, n *node) {
	var res []string
	parts := 0
	for _, item := range itemsOf(d, path, n, "https://example.com/countries.csv") {
		if !scalarOf(d, path, item, "a URL", "") {
			continue
		}
		if hint, wrong := badURL(item.text); wrong != "" {
			d.refuse(path, item.place, hint, "%s %s", quote(item.text), wrong)
			continue
		}
		files := len(expand(item.text))
		switch {
		case slices.Contains(res, item.text):
			d.refuse(path, item.place, "keep one", "%s is there twice", quote(item.text))
			continue
		case parts > 0 && files != parts:
			d.refuse(path, item.place, "mirrors hold the same files; write as many words in the braces of each",
				"%s stands for %s, the one before it for %d", quote(item.text), counted(files, "file"), parts)
			continue
		case len(res) == maxURLs:
			d.refuse(path, item.place, "", "more than %d URLs", maxURLs)
			return
		}
		parts = files
		res = append(res, item.text)
	}
	if !d.bad[path] {
		*v.p = res
	}
}

// badURL says what is wrong with a URL, and what to do; "" if nothing is.
func badURL(s string) (hint, wrong string) {
	const example = "write it like https://example.com/countries.csv, or with braces for several files: https://example.com/{ipv4,ipv6}.csv"
	if strings.Count(s, "{") > 1 || strings.Count(s, "}") != strings.Count(s, "{") || strings.Contains(s, "{}") || strings.ContainsAny(s, " \t\n\\") {
		return example, "is no URL"
	}
	files := expand(s)
	if len(files) > maxParts {
		return "write at most " + strconv.Itoa(maxParts), "has too many words in its braces"
	}
	for _, f := range files {
		if hint, wrong := badHTTPS(f, example); wrong != "" {
			return hint, wrong
		}
	}
	return "", ""
}

// badHTTPS says what is wrong with the URL of one file, and what to do; "" if nothing is.
func badHTTPS(s, example string) (hint, wrong string) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return example, "is no URL"
	case u.Scheme == "http":
		return "write https://; whoever is on the way could let anybody in otherwise", "is not https"
	case u.Scheme != "https" || u.Host == "" || u.Hostname() == "" || strings.ContainsAny(s, "{}"):
		return example, "is no https URL"
	case u.User != nil:
		return "leave the name and the password out: addresses of sources are shown and logged", "holds a password"
	case u.Fragment != "":
		return "leave out what follows the #", "has a fragment"
	}
	return "", ""
}

// counted is "1 file", "2 files".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
