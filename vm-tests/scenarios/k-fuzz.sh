#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# title: messages with the attribute in every shape, and random ones: each is answered, and the binding stays one that was asked for
# needs: attr
# tool: bind-dev
# timeout: 180
# packages: perl-base
# suite: kernel
#
# The expected answers are what NLA_NUL_STRING with a length of 15 means (include/net/netlink.h,
# lib/nlattr.c), and those of the device look-up.
set -euo pipefail
. /lib/wgvrf/lib.sh
. /lib/wgvrf/bound.sh

cat >/tmp/fuzz.pl <<'PERL'
use strict;
use warnings;
use Socket;

my ($mode, $seed, $count) = @ARGV;
my ($SET, $IFNAME, $BIND_DEV) = (1, 2, 9);
my ($EINVAL, $ENODEV, $ELOOP) = (22, 19, 40);
socket(my $nl, 16, SOCK_RAW, 16) or die "socket: $!";
my $sequence = 0;

# An attribute: type, value; its length may be another than the value's.
sub attr {
	my ($type, $value, $length) = @_;
	$length //= length $value;
	return pack("S S", 4 + $length, $type) . $value . "\0" x (-length($value) % 4);
}

# The errno of the answer to one message.
sub ask {
	my ($family, $command, $version, $attrs) = @_;
	$sequence++;
	my $body = pack("C C S", $command, $version, 0) . $attrs;
	my $message = pack("L S S L L", 16 + length $body, $family, 5, $sequence, 0) . $body;
	send($nl, $message, 0, pack("S S L L", 16, 0, 0, 0)) or die "send: $!";
	my $found;
	while (1) {
		my $answer;
		local $SIG{ALRM} = sub { die "no answer to message $sequence" };
		alarm 20 * ($ENV{WGVRF_SLOW} || 1);
		recv($nl, $answer, 65536, 0) // die "recv: $!";
		alarm 0;
		my ($length, $type, undef, $of) = unpack("L S S L", $answer);
		die "an answer to $of instead of $sequence" if $of != $sequence;
		$found = $answer, next if $type != 2;
		my $error = unpack("l", substr($answer, 16, 4));
		return (-$error, $found);
	}
}

my ($error, $answer) = ask(16, 3, 1, attr(2, "wireguard\0"));
die "no family: $error" if $error;
my $family = $answer =~ /\x06\0\x01\0(..)/s ? unpack("S", $1) : die "no number of the family";

# What ends a dump with these attributes, and how many messages it had. GET_DEVICE as a dump.
sub dump_with {
	my ($attrs) = @_;
	$sequence++;
	my $body = pack("C C S", 0, 1, 0) . $attrs;
	my $message = pack("L S S L L", 16 + length $body, $family, 0x301, $sequence, 0) . $body;
	send($nl, $message, 0, pack("S S L L", 16, 0, 0, 0)) or die "send: $!";
	my $count = 0;
	while (1) {
		my $answer;
		local $SIG{ALRM} = sub { die "no end of the dump $sequence" };
		alarm 20 * ($ENV{WGVRF_SLOW} || 1);
		recv($nl, $answer, 65536, 0) // die "recv: $!";
		alarm 0;
		while (length $answer >= 16) {
			my ($length, $type, undef, $of) = unpack("L S S L", $answer);
			die "an answer to $of instead of $sequence" if $of != $sequence;
			die "a torn answer" if $length < 16 || $length > length $answer;
			my $error = $type == 2 || $type == 3 ? unpack("l", substr($answer, 16, 4)) : undef;
			return (-$error, $count) if defined $error;
			$count++;
			my $next = $length + 3 & ~3;
			$answer = $next < length $answer ? substr($answer, $next) : "";
		}
	}
}

my $device = attr($IFNAME, "wg0\0");
sub bind_to { return (ask($family, $SET, 1, $device . join("", @_)))[0]; }

# The device of all UDP sockets here, which are wg0's; "off" for none.
sub bound_to {
	my %devices = map { (split ' ')[3] =~ /%([^:\]]+)/ ? ($1 => 1) : (off => 1) } `ss -lunH`;
	return join(" and ", sort keys %devices) || "no socket";
}

# What a message asks for: the last attribute of this type; nothing where there is none.
sub wanted {
	my $attrs = join("", @_);
	my $name;
	while (length $attrs >= 4) {
		my ($length, $type) = unpack("S S", $attrs);
		last if $length < 4 || $length > length $attrs;
		$name = unpack("Z*", substr($attrs, 4, $length - 4)) if ($type & 0x3fff) == $BIND_DEV;
		$attrs = substr($attrs, ($length + 3 & ~3) < length $attrs ? $length + 3 & ~3 : length $attrs);
	}
	return defined $name && $name eq "" ? "off" : $name;
}

if ($mode eq "table") {
	my @table = (
		["the name", 0, attr($BIND_DEV, "red\0")],
		["what follows its end", 0, attr($BIND_DEV, "red\0junk")],
		["no end", $EINVAL, attr($BIND_DEV, "red")],
		["nothing", $EINVAL, attr($BIND_DEV, "")],
		["15 bytes", $ENODEV, attr($BIND_DEV, "a" x 15 . "\0")],
		["15 bytes without an end", $EINVAL, attr($BIND_DEV, "a" x 15)],
		["16 bytes", $EINVAL, attr($BIND_DEV, "a" x 16 . "\0")],
		["16 bytes without an end", $EINVAL, attr($BIND_DEV, "a" x 16)],
		["a page", $EINVAL, attr($BIND_DEV, "a" x 4096 . "\0")],
		["no UTF-8", $ENODEV, attr($BIND_DEV, "\xff\xfe\x80\0")],
		["what no name has", $ENODEV, attr($BIND_DEV, "a/b c\0")],
		["itself", $ELOOP, attr($BIND_DEV, "wg0\0")],
		["nested", $EINVAL, attr($BIND_DEV | 0x8000, "red\0")],
		["in network order", 0, attr($BIND_DEV | 0x4000, "red\0")],
		["twice, the last counts", 0, attr($BIND_DEV, "nowhere\0") . attr($BIND_DEV, "red\0")],
		["twice, the last is wrong", $ENODEV, attr($BIND_DEV, "red\0") . attr($BIND_DEV, "nowhere\0")],
		["longer than the message", $EINVAL, attr($BIND_DEV, "red\0", 400)],
		["an attribute behind it that is none", $EINVAL, attr($BIND_DEV, "red\0") . attr($BIND_DEV + 1, "x\0")],
		["off", 0, attr($BIND_DEV, "\0")],
	);
	for (@table) {
		my ($what, $expected, $attrs) = @$_;
		bind_to(attr($BIND_DEV, "blue\0")) and die "no binding to blue";
		my $is = bind_to($attrs);
		my $now = bound_to();
		print "$what: errno $is, $now\n";
		die "$what: errno $is instead of $expected" if $is != $expected;
		my $then = $expected ? "blue" : $what eq "off" ? "off" : "red";
		die "$what: the sockets are on $now instead of $then" if $now ne $then;
	}
	# A newer kernel takes no attribute in a dump that it does not read there.
	my ($refused) = dump_with($device . attr($BIND_DEV, "red\0"));
	print "a dump with the attribute: errno $refused\n";
	die "a good name gives $refused" if $refused && $refused != $EINVAL;
	for my $length (0 .. 17) {
		for my $end ("", "\0") {
			my $name = "a" x $length . $end;
			my $expected = $name =~ /\0/ && $length < 16 ? $length ? $ENODEV : 0 : $EINVAL;
			bind_to(attr($BIND_DEV, "blue\0")) and die "no binding to blue";
			my $is = bind_to(attr($BIND_DEV, $name));
			my $now = bound_to();
			my $what = "$length bytes " . ($end ? "and" : "without") . " an end";
			die "$what: errno $is instead of $expected" if $is != $expected;
			die "$what: the sockets are on $now" if $now ne ($expected ? "blue" : "off");
			# Read only: the attribute is checked by the same policy, and changes nothing.
			my ($end_of_dump, $count) = dump_with($device . attr($BIND_DEV, $name));
			my $read = $expected == $EINVAL ? $EINVAL : $refused;
			die "$what: the dump ends with $end_of_dump, after $count" if $end_of_dump != $read;
			die "$what: $count messages" if !$read != !!$count;
			die "$what: a dump bound to " . bound_to() if bound_to() ne $now;
		}
	}
	print "36 lengths\n";
	bind_to(attr($BIND_DEV, "blue\0")) and die "no binding to blue";
	for (@table) {
		my ($what, $expected, $attrs) = @$_;
		my ($is, $count) = dump_with($device . $attrs);
		my $now = bound_to();
		print "a dump with $what: errno $is, $count messages\n";
		# A dump looks no device up.
		my $read = $expected == $EINVAL ? $EINVAL : $refused;
		die "a dump with $what: errno $is instead of $read" if $is != $read;
		die "a dump with $what: $count messages" if !$read != !!$count;
		die "a dump with $what: the sockets are on $now" if $now ne "blue";
	}
	exit 0;
}

srand($seed);
my @names = ("red\0", "blue\0", "ext0\0", "\0", "nowhere\0", "wg0\0", "red", "", "lo\0");
my %errors;
my %may = (bound_to() => 1);
my ($was, $changes) = (bound_to(), 0);
for (1 .. $count) {
	my @attrs;
	for (0 .. int rand 5) {
		my $kind = int rand 9;
		my $name = $names[rand @names];
		$name = join("", map { chr int rand 256 } 0 .. int rand 18) if rand() < 0.3;
		push @attrs, attr($BIND_DEV | (rand() < 0.05 ? 0x8000 : 0), $name) if $kind < 3;
		push @attrs, attr(6, pack("S", 51001 + int rand 3)) if $kind == 3;
		push @attrs, attr(7, pack("L", int rand 3)) if $kind == 4;
		push @attrs, attr(5, pack("L", int rand 4)) if $kind == 5;
		push @attrs, attr(8 | 0x8000, rand() < 0.5 ? "" : attr(0x8000, attr(1, "k" x 32))) if $kind == 6;
		push @attrs, attr(1 + int rand 12, join("", map { chr int rand 256 } 0 .. int rand 40)) if $kind == 7;
		push @attrs, attr($BIND_DEV, $name, int rand 40) if $kind == 8 && rand() < 0.2;
	}
	my $error = bind_to(@attrs);
	my $name = wanted(@attrs);
	$errors{$error}++;
	# A message that fails later, at its peers, has bound already.
	%may = () if defined $name && !$error;
	$may{$name} = 1 if defined $name;
	next if $_ % 5;
	my $now = bound_to();
	die "message $_: the sockets are on $now instead of " . join(" or ", sort keys %may) if !$may{$now};
	$changes++ if $now ne $was;
	$was = $now;
	%may = ($now => 1);
}
die "the binding changed $changes times only" if $changes < 3;
print "errno $_: $errors{$_} times\n" for sort { $a <=> $b } keys %errors;
die "nothing was accepted, or nothing refused" if !$errors{0} || !$errors{$EINVAL};
my %known = map { $_ => 1 } 0, $EINVAL, $ENODEV, $ELOOP, 34, 53, 95, 98;
$known{$_} or die "errno $_" for keys %errors;
PERL

bound_topology
say "each shape"
r perl /tmp/fuzz.pl table
bound_to blue
bind_to red
p_calls 198.51.100.1
works p

SEED=${WGVRF_SEED:-20261126}
say "at random, by seed $SEED"
for n in $(seq 8); do
	r perl /tmp/fuzz.pl random $((SEED + n)) 200
	is=$(r "$WG" show wg0 bind-dev)
	case $is in
	red | blue | ext0 | lo | off) ;;
	*) die "bound to '$is'" ;;
	esac
done

say "and it still works"
r "$WG" set wg0 private-key /tmp/r.key listen-port "$RPORT" fwmark 0 bind-dev red \
	peer "$PKEY" allowed-ips 10.9.0.2/32,fd09::2/128
restart
p_calls 198.51.100.1
works p
