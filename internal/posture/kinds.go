package posture

// Kind is one of the findings that there are: docs/check.md is made of them.
type Kind struct {
	ID       string
	Severity Severity // the usual one; a finding may be milder or worse by what was seen
	About    string   // when it is told
	Why      string
	Remedy   string // the usual one
}

const (
	file  = "in /etc/sekisho/sekisho.yaml"
	apply = file + ", then: sekisho apply"
	basic = "set ssh.profile: basic " + apply

	reload = "sshd -t && systemctl reload ssh (sshd where it is called so)"
)

// Kinds are all of them, by what they are about.
func Kinds() []Kind {
	return []Kind{
		// Who reaches the port.
		{"ssh_open", High, "nothing in force limits who reaches SSH's port", "every machine of the internet may try: passwords, keys and the next flaw of sshd", "sekisho init, then: sekisho apply"},
		{"firewall_off", High, "`sekisho off` was the last word", "no rule and no ban of Sekisho's is in force", "sekisho apply"},
		{"daemon_down", High, "the file is there, but the daemon does not run", "nobody is banned, and what others take out of the kernel is not put back", "systemctl enable --now sekisho"},
		{"daemon_problem", Medium, "the daemon itself says that something is wrong", "what it says may keep it from protecting this host", "sekisho status"},
		{"not_enforcing", Medium, "guard.enforce is off: bans are decided and told, and not made", "attackers go on", "set guard.enforce: yes " + file + ", then: sekisho reload"},
		{"not_applied", Low, "the file asks for other rules than those in force", "what was meant to protect this host does not yet", "sekisho plan, then: sekisho apply"},
		{"config_invalid", Medium, "Sekisho's own configuration cannot be read", "the daemon goes on with what it had, or does not start", "sekisho config check"},
		{"port_blocked", High, "another firewall drops new connections to SSH that our rules let in", "whoever is logged out stays out", "open the port there, as the finding says"},
		{"another_firewall", Info, "another firewall drops strangers' connections to SSH", "on which rung this host stands is up to its rules", "sekisho plan tells how the two go together"},
		{"two_firewalls", Medium, "another firewall program is active beside a lockdown", "what one lets in the other may drop", "end it, or set firewall.mode: guard " + apply},
		{"ipv6_open", High, "another firewall limits SSH over IPv4 only, while sshd listens on IPv6 too", "the door stands open beside the one that is watched", "limit IPv6 there too, or: sekisho apply"},
		{"listens_everywhere", Info, "sshd listens on all addresses", "an address that is added later, as of a VPN or a container network, is open too", "name the addresses in sshd_config with ListenAddress, if only some are meant"},
		{"conntrack", High, "the connection tracking table is nearly full", "new connections, SSH too, are dropped", "as the finding says"},

		// How sshd runs.
		{"config_rejected", Critical, "sshd refuses its configuration as it is on the disk", "at its next restart nobody gets in", "mend the line that it names, then: sshd -t"},
		{"config_not_loaded", Medium, "a file changed after the running sshd had read it", "what runs is not what the file says, in either direction", reload},
		{"sshd_replaced", High, "sshd was upgraded, but the former program still runs", "the flaws that the upgrade mends are still there", "systemctl restart ssh (sshd where it is called so); sessions go on"},
		{"sshd_down", Info, "sshd is installed and does not run", "nobody comes in over SSH", "systemctl enable --now ssh (sshd where it is called so), if it should"},
		{"port_ignored", Medium, "sshd listens on other ports than its configuration says", "with socket activation the socket unit says where, and not Port; a restart may move it", "systemctl daemon-reload && systemctl restart ssh.socket, or set ssh.port " + apply},
		{"update_pending", High, "the package lists know a newer openssh-server", "updates of sshd mend flaws that are known to all", "apt-get install --only-upgrade openssh-server, or dnf upgrade openssh-server"},
		{"cve_2024_6387", Critical, "this sshd has the race that is called regreSSHion (8.5 to 9.7, unless mended by the distribution)", "whoever reaches the port may become root without logging in", "upgrade openssh-server now; until then ssh.settings: {LoginGraceTime: 0} closes it"},
		{"cve_2024_6409", High, "this sshd of Red Hat's kind (8.7) has the race of its audit patch", "whoever reaches the port may run code in sshd's unprivileged process", "upgrade openssh-server now"},
		{"cve_2025_26466", Medium, "this sshd (9.5 to 9.9p1) keeps an answer for each ping before a login", "a stranger may use up its memory and time", "upgrade openssh-server; PerSourcePenalties and LoginGraceTime lessen it"},
		{"cve_2026_3497", Medium, "this sshd has the distributions' patch for GSSAPI key exchange, which is on, with its flaw", "a stranger may crash the process that serves it, or worse, by how it was built", "upgrade openssh-server; until then set ssh.settings: {GSSAPIKeyExchange: no} " + apply},
		{"cve_2026_123158", High, "this sshd (before 10.6p2) is built with musl and without PAM, as Alpine's is, and takes passwords", "for some accounts any password of 256 characters and more is taken", "apk upgrade openssh-server, and restart it; until then set ssh.password_login: no " + apply},
		{"end_of_life", High, "this release of the operating system gets no more security updates", "the next flaw of sshd stays open here", "move to a release that is kept"},

		// What sshd lets in.
		{"root_password", Critical, "root may log in with a password", "every attacker knows the name, and tries passwords for it all day", "set ssh.root_login: no " + apply},
		{"root_login", Low, "root may log in with a key", "nobody can tell afterwards who it was", "set ssh.root_login: no " + apply},
		{"password_login", High, "a password opens the door", "passwords are guessed, reused and phished; keys are not", "set ssh.password_login: no " + apply},
		{"empty_passwords", Critical, "PermitEmptyPasswords is on", "an account without a password lets everybody in", basic},
		{"host_based", Medium, "HostbasedAuthentication is on", "whoever holds another machine holds this one", "set ssh.settings: {HostbasedAuthentication: no} " + apply},
		{"rhosts", Low, "IgnoreRhosts is off", "users may name whole machines that are let in", "set ssh.settings: {IgnoreRhosts: yes} " + apply},
		{"strict_modes", High, "StrictModes is off", "a key file that somebody else can write is taken", basic},
		{"user_environment", Medium, "PermitUserEnvironment is on", "a user may set LD_PRELOAD and so get round a forced command", "set ssh.settings: {PermitUserEnvironment: no} " + apply},
		{"max_auth_tries", Low, "many tries on one connection are allowed", "an attacker needs fewer connections, and shows later", basic},
		{"login_grace_time", Low, "a connection may take long to log in", "connections that never log in hold their slots that long", basic},
		{"max_startups", Low, "many connections that have not logged in are served at once", "each is a process; strangers can fill the machine with them", basic},
		{"x11_forwarding", Low, "X11Forwarding is on", "who holds this host may reach the screens of those who forward theirs", basic},
		{"log_level", Low, "LogLevel is below VERBOSE", "the log does not tell which key logged in; below INFO attacks are not seen at all", basic},
		{"use_dns", Low, "UseDNS is on", "a slow resolver holds up every login, and names in the log are the attacker's", basic},
		{"weak_ciphers", Medium, "sshd offers ciphers that are broken or worn out", "a client may be brought to use them", "take them out of Ciphers in sshd_config (where it is the system's policy: update-crypto-policies --set DEFAULT), then: " + reload},
		{"weak_macs", Medium, "sshd offers MACs that are broken or cut short", "a client may be brought to use them", "take them out of MACs in sshd_config (where it is the system's policy: update-crypto-policies --set DEFAULT), then: " + reload},
		{"weak_kex", Medium, "sshd offers key exchanges that rest on SHA-1 or on small groups", "who records the connection may read it one day", "take them out of KexAlgorithms in sshd_config (where it is the system's policy: update-crypto-policies --set DEFAULT), then: " + reload},
		{"weak_signatures", Low, "sshd offers or takes signatures by SHA-1 or DSA", "such signatures can be forged at a price that falls", "take ssh-rsa and ssh-dss out of HostKeyAlgorithms and PubkeyAcceptedAlgorithms, then: " + reload},
		{"match_opens", Medium, "a Match block allows what is forbidden to everybody else", "it holds for whoever meets its conditions, and is easily forgotten", "take the line away, or narrow its Match, then: " + reload},
		{"setting_shadowed", Medium, "a line has no effect, since an earlier one says otherwise", "sshd takes the first value that it meets; whoever wrote the later line believes it holds", "take one of the two lines away, then: " + reload},
		{"setting_scoped", Medium, "a line at the left margin stands below a Match, and holds for that only", "whoever appended it believes it holds for everybody", "move it above the first Match, then: " + reload},
		{"relics", Info, "a line is of SSH protocol 1 or of times gone by", "it does nothing, and hides what does", "take the line away"},
		{"protocol_1", Critical, "this sshd speaks SSH protocol 1", "the protocol is broken: sessions can be read and changed", "set Protocol 2 in sshd_config, and upgrade openssh-server"},

		// The host's keys and authorities.
		{"host_key_readable", High, "a private host key can be read by others", "who has it can pose as this host", "ssh-keygen a new one, chmod 0600, and tell those who know the old one"},
		{"host_key_weak", Medium, "a host key is DSA or a short RSA key", "who breaks it can pose as this host", "ssh-keygen -t ed25519 -f /etc/ssh/ssh_host_ed25519_key, and take the HostKey line of the old one away"},
		{"host_cert_expires", Medium, "a host certificate ends soon or has ended", "clients that trust certificates refuse to connect", "have it signed anew, then reload sshd"},
		{"ca_writable", Critical, "others can write the file of trusted authorities", "they can let themselves in as anybody", "chown root and chmod 0644 the file"},
		{"ca_trusted", Info, "users may log in with certificates of an authority", "who holds its private key holds this host", "see that the key is the one you know: ssh-keygen -lf the file"},
		{"ca_unreadable", High, "the file of trusted authorities cannot be read", "who has only a certificate does not get in", "mend TrustedUserCAKeys in sshd_config"},
		{"revoked_unreadable", Critical, "the file of revoked keys cannot be read", "sshd then refuses every key", "mend RevokedKeys in sshd_config"},

		// Accounts.
		{"no_way_in", Critical, "no account can log in: passwords are off, and sshd takes no key of anybody", "after the present sessions nobody gets in", "add a key to ~/.ssh/authorized_keys before you log out"},
		{"key_refused", Medium, "sshd refuses a key file for who can write it or its folders", "its holder does not get in with it; Sekisho cannot help there", "chmod go-w the file and its folders, and chown them to the account"},
		{"key_line", Low, "a line of a key file is no key that sshd takes", "its holder does not get in with it", "mend the line: one key is one line"},
		{"password_none", High, "an account has no password at all", "who reaches a prompt is in; so is everybody, with PermitEmptyPasswords", "passwd -l the account"},
		{"password_set", Low, "accounts have passwords while sshd takes passwords", "each is worth guessing", "passwd -l those that need none, or set ssh.password_login: no " + apply},
		{"uid0_twin", High, "another account than root has uid 0", "it is root by another name, and is overlooked when root is locked", "userdel it, or give it a uid of its own"},
		{"key_weak", High, "a key is DSA, or RSA of less than 2048 bits", "it can be broken", "have its holder make another: ssh-keygen -t ed25519"},
		{"key_short", Low, "a key is RSA of less than 3072 bits", "it is below what NIST SP 800-57 asks for beyond 2030", "have its holder make another: ssh-keygen -t ed25519"},
		{"key_old", Low, "a key file has not changed for more than two years", "people leave, and laptops are lost; keys stay", "ask whose keys these are, and take away what nobody owns"},
		{"key_shared", Medium, "one key stands under several names", "it is held by several people: nobody can tell who logged in, nor take it from one of them", "have each of them make a key"},
		{"key_everywhere", Low, "one key opens several accounts", "who has it has all of them", "give each account a key of its own, or let people become another by sudo"},
		{"key_unrestricted", Low, "a service's account has a key without restriction", "what should run one command may forward ports and run anything", `put restrict,command="..." before the key`},
		{"root_keys", Info, "root has keys of its own", "who it was cannot be told afterwards", "let people log in as themselves, and use sudo"},

		// The machine.
		{"clock_unsynchronized", Low, "nobody keeps this machine's clock", "bans, grants and certificates end at the wrong time, and logs tell the wrong one", "systemctl enable --now systemd-timesyncd (or chronyd)"},
		{"clock_off", High, "the clock is wrong", "bans, grants and certificates end at the wrong time, and logs tell the wrong one", "chronyc makestep, or: systemctl restart systemd-timesyncd"},
		{"imds_v1", Medium, "EC2's metadata service answers without a token", "a flaw in any web service of this machine gives its credentials away", "aws ec2 modify-instance-metadata-options --http-tokens required --instance-id ..."},

		// Security groups of the configuration's targets.
		{"group_open_to_all", Critical, "a target's group lets everybody in to its port", "everybody on the internet gets to SSH there, whatever else is set", "take the rule away; whoever needs it gets in by a fixed address or on request"},
		{"group_rule_wide", Medium, "a rule that is not ours lets a whole network in to a target's port", "everybody in that network gets to SSH there", "name the addresses under people " + file + ", then: sekisho apply, and take the rule away"},
		{"group_rule_foreign", Low, "a rule that is not ours lets somebody in to a target's port", "nobody knows from the configuration whose it is, and until when", "give its owner that address under fixed " + file + ", then: sekisho adopt; or take it away"},
		{"group_rule_altered", High, "a rule of ours lets in somebody else than whom it was made for", "somebody changed it by hand", "sekisho reap"},
		{"group_lease_over", High, "a lease has ended, and its rule is still there", "a door that should be shut is open: no reaper runs, or it may not take the rule away", "sekisho reap, and see that one runs every minute"},
		{"group_lease_long", High, "a lease ends later than any target allows", "somebody wrote another end into its tags", "sekisho close TARGET --person NAME, or take the lease's tag off the rule"},
		{"group_former_address", High, "a rule of any group lets in an address that somebody had once (former)", "whoever has that address today gets in", "take the rule away: sekisho where ADDR finds them all"},
		{"group_rule_orphan", Medium, "a rule of ours for a fixed address is in a group that no target names any more", "nobody takes it away when the address changes", "take the rule away, or name the group again " + file},
		{"group_plan", Low, "a target's group does not have the fixed addresses that the file names", "somebody gets in who should not, or the other way round", "sekisho plan --groups, then: sekisho apply --groups"},
	}
}
