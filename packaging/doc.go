// Package packaging holds what the packages are made of: the list of what goes where (files),
// who goes by it (install.sh, build.sh, pack), and what dpkg and rpm run (scripts). Its Go part
// is tests alone, of the packages and of the units; pack is a module of its own.
package packaging
