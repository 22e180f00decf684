# SPDX-License-Identifier: GPL-2.0-only OR MIT
# A Salt state. `unless' makes a run that changes nothing report nothing.
wg-cr02-file:
  file.managed:
    - name: /etc/wireguard/wg-cr02.conf
    - source: salt://wireguard/wg.conf.j2
    - template: jinja
    - mode: '0600'
    - show_changes: False
    - context:
        private_key: {{ pillar['wireguard_keys']['wg-cr02'] | json }}
        wg: {{ pillar['wireguard']['wg-cr02'] | json }}
wg-cr02:
  cmd.run:
    - name: wg syncconf --exit-code wg-cr02 /etc/wireguard/wg-cr02.conf
    - unless: wg syncconf --dry-run --exit-code wg-cr02 /etc/wireguard/wg-cr02.conf
    - success_retcodes: [2]
    - require:
      - file: wg-cr02-file
