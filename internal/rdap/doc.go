// Package rdap finds out whose an address is: it asks the registries over RDAP (RFC 7480 to 9083),
// WHOIS (RFC 3912) where RDAP has no answer, and DNS for the name and the autonomous system. A
// mechanism; it alone speaks to these servers.
//
// What comes back is text of whoever holds the network, who may be the attacker: it is bounded, one line
// each, without control and direction characters, and a mail address is a plain one. It remains a claim.
//
// The registries are told which addresses a host takes an interest in, and so is Team Cymru
// (origin.asn.cymru.com), by way of the host's own resolver. Whoever minds switches it off above.
package rdap
