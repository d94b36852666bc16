package config

import (
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"sekisho/internal/printable"
)

// Bounds of what is named about AWS.
const (
	maxAccounts        = 100
	maxRegions         = 64
	maxAddressServices = 16
	maxProfile         = 128
	maxExternalID      = 1224 // AssumeRole's
)

var (
	accountPattern  = regexp.MustCompile(`^[0-9]{12}$`)
	regionPattern   = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
	zonePattern     = regexp.MustCompile(`^([a-z]{2}(-[a-z]+)+-[0-9])[a-z]$`)
	groupPattern    = regexp.MustCompile(`^sg-[0-9a-f]{8,17}$`)
	rolePattern     = regexp.MustCompile(`^arn:aws(-[a-z]+)*:iam::([0-9]{12}):role/([!-~]{1,510}/)?[A-Za-z0-9+=,.@_-]{1,64}$`)
	externalPattern = regexp.MustCompile(`^[A-Za-z0-9_+=,.@:/-]{2,}$`) // of AssumeRole
)

// body is a pattern without its anchors.
func body(r *regexp.Regexp) string { return strings.Trim(r.String(), "^$") }

func accountID() form {
	return form{
		what: "an account's number", grammar: `twelve digits in quotes, or ` + "`\"\"`" + `: not checked`, pattern: body(accountPattern), example: `"111122223333"`,
		read: func(n *node) (value, hint, wrong string) {
			bare := strings.ReplaceAll(strings.ReplaceAll(n.text, "-", ""), " ", "")
			switch {
			case accountPattern.MatchString(n.text) && n.quoted:
				return n.text, "", ""
			case accountPattern.MatchString(n.text):
				return "", `write it in quotes: "` + n.text + `"; a number would lose its leading zeros`, n.text + " is a number where an account's twelve digits are wanted"
			case accountPattern.MatchString(bare):
				return "", `write "` + bare + `"`, quote(n.text) + " is no account's number"
			case !n.quoted && len(bare) < 12 && strings.Trim(bare, "0123456789") == "":
				return "", "write all twelve digits, in quotes: a number loses its leading zeros", n.text + " is no account's number"
			}
			return "", `write its twelve digits in quotes: "111122223333"`, quote(n.text) + " is no account's number"
		},
	}
}

func profile() form {
	return form{
		what: "a profile", grammar: "name of a profile in ~/.aws/config, or `\"\"`: the environment's credentials", example: "prod",
		read: func(n *node) (value, hint, wrong string) {
			if len(n.text) > maxProfile || n.text != strings.TrimSpace(n.text) || n.text != printable.Text(n.text) || strings.ContainsAny(n.text, "[]") {
				return "", "write the word that stands in brackets after `profile` in ~/.aws/config", quote(n.text) + " is no name of a profile"
			}
			return n.text, "", ""
		},
	}
}

func role() form {
	const example = "arn:aws:iam::111122223333:role/sekisho"
	return form{
		what: "a role", grammar: "ARN of an IAM role, or `\"\"`: none", pattern: body(rolePattern), example: example,
		read: func(n *node) (value, hint, wrong string) {
			switch s := n.text; {
			case rolePattern.MatchString(s):
				return s, "", ""
			case strings.Contains(s, ":assumed-role/"):
				return "", "write the ARN of the role itself, like " + example, quote(s) + " is the session of somebody who has assumed a role"
			case strings.HasPrefix(s, "arn:"):
				return "", "write it like " + example, quote(s) + " is no ARN of an IAM role"
			default:
				return "", "write the whole ARN, like " + example, quote(s) + " is no ARN"
			}
		},
	}
}

func externalID() form {
	return form{
		what: "an external id", grammar: "what the role asks for, or `\"\"`: nothing", pattern: body(externalPattern), example: "sekisho-prod",
		read: func(n *node) (value, hint, wrong string) {
			if !externalPattern.MatchString(n.text) || len(n.text) > maxExternalID {
				return "", "AWS takes 2 to 1224 letters, digits and _+=,.@:/-", quote(n.text) + " is no external id"
			}
			return n.text, "", ""
		},
	}
}

func region(grammar string) form {
	return form{
		what: "a region", grammar: grammar, pattern: body(regionPattern), example: "eu-central-1",
		read: func(n *node) (value, hint, wrong string) {
			if m := zonePattern.FindStringSubmatch(n.text); m != nil {
				return "", "write " + m[1], quote(n.text) + " is a zone of a region"
			}
			if !regionPattern.MatchString(n.text) {
				return "", "write it like eu-central-1", quote(n.text) + " is no region"
			}
			return n.text, "", ""
		},
	}
}

func securityGroup() form {
	return form{
		what: "a security group", grammar: "id of a security group; must be there", pattern: body(groupPattern), example: "sg-0123456789abcdef0",
		read: func(n *node) (value, hint, wrong string) {
			switch s := n.text; {
			case groupPattern.MatchString(s):
				return s, "", ""
			case strings.HasPrefix(s, "sgr-"):
				return "", "write the id of the group that it is in: sg-…", quote(s) + " is a rule"
			case strings.HasPrefix(s, "pl-"):
				return "", "write the id of the group, sg-…, and via: prefix_list", quote(s) + " is a prefix list"
			default:
				return "", "write the group's id, sg- and 8 to 17 digits and letters to f; a name is not enough", quote(s) + " is no security group's id"
			}
		},
	}
}

// endpoint is the URL that takes the place of AWS's own.
func endpoint() form {
	const example = "http://127.0.0.1:4566"
	return form{
		what: "a URL", grammar: "https URL, http for this host alone, or `\"\"`: AWS itself", pattern: "https?://[^ ]+", example: example,
		read: func(n *node) (value, hint, wrong string) {
			u, err := url.Parse(n.text)
			switch {
			case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || strings.ContainsAny(n.text, " \t\n\\"):
				return "", "write it like " + example, quote(n.text) + " is no https URL"
			case u.User != nil:
				return "", "leave the name and the password out; credentials are those of the account", "holds a password"
			case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
				return "", "leave out what follows the ? or #", quote(n.text) + " is more than the address of a service"
			case u.Scheme == "http" && !thisHost(u.Hostname()):
				return "", "write https://; whoever is on the way could answer in AWS's place otherwise", quote(n.text) + " is not https"
			}
			return n.text, "", ""
		},
	}
}

// thisHost reports whether a name or address in a URL is the host's own, whoever runs the
// DNS.
func thisHost(name string) bool {
	a, err := netip.ParseAddr(name)
	return name == "localhost" || err == nil && a.Unmap().IsLoopback()
}

func addressService() form {
	const example = "https://checkip.amazonaws.com"
	return form{
		what: "a URL", grammar: "list of https URLs", pattern: "https://[^ ]+", example: example,
		read: func(n *node) (value, hint, wrong string) {
			if strings.ContainsAny(n.text, " \t\n\\{}") {
				return "", "write it like " + example, quote(n.text) + " is no https URL"
			}
			hint, wrong = badHTTPS(n.text, "write it like "+example)
			if wrong != "" {
				return "", hint, quote(n.text) + " " + wrong
			}
			return n.text, "", ""
		},
	}
}

func (a *AWS) table() group {
	return group{
		{"endpoint", "Takes the place of AWS's own service: an emulator's. Left out, `AWS_ENDPOINT_URL` is heeded, as everywhere.", word{p: &a.Endpoint, form: endpoint()}},
		{"name", "Tells this configuration from others that keep managed prefix lists in the same accounts: each has lists of its own then.",
			word{p: &a.Name, form: nameForm("a name", "name of your own, or `\"\"`: there are no others", "tokyo")}},
		{"reap", "How often `sekisho run` looks for rules that are past their end, and takes them away. One host of a team is enough. " +
			"`sekisho reap` does the same once.", every{&a.Reap, reapMin, reapMax}},
		{"address_services", "Who is asked for the address that this machine is seen by, in this order: services that answer with nothing else. " +
			"None: `--ip` must say it.", words{p: &a.AddressServices, form: addressService(), max: maxAddressServices}},
		{"accounts", "The accounts that targets are in, by a name of your own. None: the one that the environment's credentials are for.", named[Account]{
			p: &a.Accounts, what: "an account", names: "accounts", max: maxAccounts,
			begin:   func(string) Account { return Account{} },
			keys:    (*Account).table,
			example: `prod: {id: "111122223333", role: "arn:aws:iam::111122223333:role/sekisho", regions: [eu-central-1]}`,
		}},
	}
}

func (a *Account) table() group {
	return group{
		{"id", "The account's number. Credentials that turn out to be another's are not used.", word{p: &a.ID, form: accountID()}},
		{"profile", "Whose credentials are used.", word{p: &a.Profile, form: profile()}},
		{"role", "The role that is assumed with them.", word{p: &a.Role, form: role()}},
		{"external_id", "What the role's trust policy asks for; only with `role`.", word{p: &a.ExternalID, form: externalID()}},
		{"regions", "Regions that `sekisho where` and `sekisho reap` look through beside those that targets are in.",
			words{p: &a.Regions, form: region("list of regions"), max: maxRegions}},
	}
}
