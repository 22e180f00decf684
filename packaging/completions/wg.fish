# SPDX-License-Identifier: GPL-2.0-only OR MIT
# Completion of wg(8) for fish; installed as /usr/share/fish/vendor_completions.d/wg.fish.
# The words are checked against the program's own tables by tests/consumers.

# The words before the cursor, without it and without what comes before `wg`.
function __wg_words
    commandline -opc
end

function __wg_at --description 'exactly N words are there, the second one of these'
    set -l words (__wg_words)
    test (count $words) -eq $argv[1]; or return 1
    test (count $argv) -eq 1; or contains -- $words[2] $argv[2..]
end

function __wg_field_next
    set -l words (__wg_words)
    test (count $words) -eq 3; and test "$words[2]" = show; and test "$words[3]" != interfaces
end

# What `wg set` takes next: a keyword "of-device" or "of-peer", or else the value of the keyword
# that is printed.
function __wg_set_next
    set -l words (__wg_words)
    test (count $words) -ge 3; and test "$words[2]" = set; or return 1
    set -l scope of-device
    set -l i 4
    while test $i -le (count $words)
        test "$words[$i]" = peer; and set scope of-peer
        if test "$words[$i]" != remove
            if test $i -eq (count $words)
                echo $words[$i]
                return
            end
            set i (math $i + 1)
        end
        set i (math $i + 1)
    end
    echo $scope
end

function __wg_set_wants
    contains -- (__wg_set_next) $argv
end

function __wg_interfaces
    wg show interfaces 2>/dev/null | string split ' '
end

function __wg_peers
    set -l words (__wg_words)
    wg show $words[3] peers 2>/dev/null
end

# VRFs say so: they are what bind-dev is for.
function __wg_devices
    set -l words (__wg_words)
    set -l vrfs (ip -o link show type vrf 2>/dev/null | string replace -rf '^[0-9]+: ([^:@]+).*' '$1')
    for dev in $vrfs
        printf '%s\tVRF\n' $dev
    end
    for path in /sys/class/net/*/ifindex
        set -l dev (string split / $path)[5]
        contains -- $dev $vrfs $words[3]; or printf '%s\tdevice\n' $dev
    end
    printf 'off\tnot bound\n'
end

complete -c wg -f

complete -c wg -n '__wg_at 1' -a show -d 'state of interfaces'
complete -c wg -n '__wg_at 1' -a showconf -d 'configuration, as setconf reads it'
complete -c wg -n '__wg_at 1' -a set -d 'change settings and peers'
complete -c wg -n '__wg_at 1' -a setconf -d 'make the configuration what a file says'
complete -c wg -n '__wg_at 1' -a addconf -d 'add what a file says'
complete -c wg -n '__wg_at 1' -a syncconf -d 'like setconf, without disturbing sessions'
complete -c wg -n '__wg_at 1' -a genkey -d 'new private key'
complete -c wg -n '__wg_at 1' -a genpsk -d 'new preshared key'
complete -c wg -n '__wg_at 1' -a pubkey -d 'public key of the private key on stdin'
complete -c wg -n '__wg_at 1' -a doctor -d 'what keeps a binding from holding'
complete -c wg -n '__wg_at 1' -a reresolve -d 'look up endpoints of silent peers again'
complete -c wg -n '__wg_at 1' -a help -d 'list the verbs'
complete -c wg -n '__wg_at 1' -a version -d 'version'

complete -c wg -n '__wg_at 2 show showconf set setconf addconf syncconf doctor reresolve' -a '(__wg_interfaces)' -d interface
complete -c wg -n '__wg_at 2 show doctor' -a all -d 'all interfaces'
complete -c wg -n '__wg_at 2 show' -a interfaces -d 'names only'
complete -c wg -n '__wg_at 2 show' -a json -d 'all interfaces, as JSON'
complete -c wg -n '__wg_at 2 doctor' -a json -d 'as JSON'
complete -c wg -n '__wg_at 3 doctor' -a json -d 'as JSON'
complete -c wg -n __wg_field_next -a 'public-key private-key listen-port fwmark peers preshared-keys endpoints allowed-ips latest-handshakes transfer persistent-keepalive dump bind-dev json'
complete -c wg -n '__wg_at 3 setconf addconf syncconf reresolve' -F

complete -c wg -n '__wg_set_wants of-device' -a listen-port -d 'UDP port'
complete -c wg -n '__wg_set_wants of-device' -a fwmark -d 'mark on encrypted packets'
complete -c wg -n '__wg_set_wants of-device' -a private-key -d 'file with the private key'
complete -c wg -n '__wg_set_wants of-device' -a bind-dev -d 'device or VRF for encrypted packets'
complete -c wg -n '__wg_set_wants of-device of-peer' -a peer -d 'public key of a peer to add or change'
complete -c wg -n '__wg_set_wants of-peer' -a remove -d 'remove the peer'
complete -c wg -n '__wg_set_wants of-peer' -a preshared-key -d 'file with the preshared key'
complete -c wg -n '__wg_set_wants of-peer' -a endpoint -d 'address and port'
complete -c wg -n '__wg_set_wants of-peer' -a persistent-keepalive -d seconds
complete -c wg -n '__wg_set_wants of-peer' -a allowed-ips -d prefixes

complete -c wg -n '__wg_set_wants bind-dev' -a '(__wg_devices)'
complete -c wg -n '__wg_set_wants peer' -a '(__wg_peers)' -d peer
complete -c wg -n '__wg_set_wants fwmark persistent-keepalive' -a off
complete -c wg -n '__wg_set_wants private-key preshared-key' -F
