# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Completion of wg(8) for bash. Needs no bash-completion package; installed as
# /usr/share/bash-completion/completions/wg.
# The words are checked against the program's own tables by tests/consumers.

# _wg_devices: VRFs first, since those are what bind-dev is for, then every other device.
_wg_devices() {
	local dev vrfs
	vrfs=$(ip -o link show type vrf 2>/dev/null | awk -F': ' '{ print $2 }')
	echo "$vrfs"
	for dev in /sys/class/net/*/ifindex; do
		dev=${dev%/ifindex}
		dev=${dev##*/}
		[[ $dev == "$1" || $'\n'"$vrfs"$'\n' == *$'\n'"$dev"$'\n'* ]] || echo "$dev"
	done
}

_wg() {
	# COMP_WORDS is no use here: readline cuts words at the = of keys and the : of endpoints.
	local line=${COMP_LINE:0:COMP_POINT} args at
	read -ra args <<<"$line"
	[[ $line != *[[:space:]] ]] || args+=("")
	at=$((${#args[@]} - 1))
	local cur=${args[at]} prev=${args[at - 1]}
	local wg=${args[0]} verb=${args[1]-} interface=${args[2]-}
	local verbs="show showconf set setconf addconf syncconf genkey genpsk pubkey doctor reresolve help version"
	local fields="public-key private-key listen-port fwmark peers preshared-keys endpoints
		allowed-ips latest-handshakes transfer persistent-keepalive dump bind-dev json"
	local device="listen-port fwmark private-key bind-dev"
	local peer="remove preshared-key endpoint persistent-keepalive allowed-ips"
	local words=() i in_peer=

	COMPREPLY=()
	if ((at == 1)); then
		mapfile -t COMPREPLY < <(compgen -W "$verbs" -- "$cur")
		return
	fi
	case $verb in
	show | showconf | set | setconf | addconf | syncconf | doctor | reresolve) ;;
	*) return ;;
	esac

	if ((at == 2)); then
		mapfile -t words < <("$wg" show interfaces 2>/dev/null | tr ' ' '\n')
		[[ $verb != show ]] || words+=(all interfaces json)
		[[ $verb != doctor ]] || words+=(all json)
	elif [[ $verb == show ]]; then
		((at == 3)) && [[ $interface != interfaces ]] || return
		mapfile -t words < <(compgen -W "$fields")
	elif [[ $verb == doctor ]]; then
		((at == 3)) || return
		words=(json)
	elif [[ $verb == *conf || $verb == reresolve ]]; then
		[[ $verb != showconf ]] && ((at == 3)) || return
		compopt -o filenames 2>/dev/null
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
	else
		# wg set: what came before tells whether a value or a keyword is next.
		for ((i = 3; i < at; i++)); do
			[[ ${args[i]} != peer ]] || in_peer=1
			case ${args[i]} in
			remove) ;;
			*) ((i++)) ;;
			esac
		done
		if ((i == at)); then
			[[ -z $in_peer ]] || device=
			mapfile -t words < <(compgen -W "$device ${in_peer:+$peer} peer")
		else
			case $prev in
			private-key | preshared-key)
				compopt -o filenames 2>/dev/null
				mapfile -t COMPREPLY < <(compgen -f -- "$cur")
				return
				;;
			bind-dev)
				mapfile -t words < <(_wg_devices "$interface")
				words+=(off)
				;;
			fwmark | persistent-keepalive) words=(off) ;;
			peer) mapfile -t words < <("$wg" show "$interface" peers 2>/dev/null) ;;
			*) return ;;
			esac
		fi
	fi
	# VRFs stay in front where bash can leave the order alone (4.4).
	compopt -o nosort 2>/dev/null
	for i in "${words[@]}"; do
		[[ -z $i || $i != "$cur"* ]] || COMPREPLY+=("$i")
	done
}

complete -F _wg wg
