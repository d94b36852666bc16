// Package documents holds the project's documents to the program, by its tests alone: links
// lead somewhere, commands exist and run, YAML is what the program takes, README.ja.md says what
// README.md says.
//
// What a document's author has to know:
//
//   - A fence says what it holds: console, sh, yaml, json, text (shown as it is, and not looked
//     at), ...
//   - In a console block each line that begins with a prompt (`$ `, or a machine's name, `gate$ `)
//     is a command; what follows, up to the next, is what it prints, or the text of its <<'END'.
//     An sh block is a script.
//   - Commands run as root in a machine made for the document: network and mount namespaces with a
//     real sshd, an EC2 (ec2test), a mail server, a gate, and this program as daemon. They end with
//     0; `plan`, `check` and `status` may find something (docs/exit-codes.md). Where another code
//     is right the line's comment says so: `# exits 4`. What never ends by itself (`run`, `gate`,
//     `top`) runs until the document is over. `systemctl start` runs the ExecStart of a unit of
//     contrib/systemd.
//   - /etc/sekisho/sekisho.yaml is the last whole yaml block above (one with `version: 1`), with
//     the parts that came after it; where there is none, one in which everything is set up.
//   - make targets are looked up in the Makefile, not run.
//   - A block that needs more says so on the line before it, for readers of the source too:
//     <!-- needs: systemd -->, <!-- needs: AWS -->, <!-- needs: another machine -->,
//     <!-- needs: Internet -->. Its commands are parsed all the same.
//   - Commands within a text, `sekisho open TARGET [--for 2h]`, are parsed too.
package documents
