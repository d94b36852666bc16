// Package lab is a small internet in network namespaces: a host with a real
// sshd and a real log, an administrator, and attackers with thousands of
// source addresses. `sekisho lab` shows it to people; the integration tests
// and benchmarks run in it.
//
// Nothing of it touches the machine: network and mount namespaces are
// anonymous (held by file descriptors and threads of this process), and sshd
// runs in a PID namespace that dies with it, so that even a kill -9 leaves
// nothing but a temporary folder, which the next New removes. It needs root
// and sshd, no other program.
//
// All addresses are from the documentation and benchmark ranges, unless more
// are asked for. The package
// is above the mechanisms: everything but cli and daemon may be imported here;
// beside firewall and conntrack it is the only one to speak netlink.
package lab
