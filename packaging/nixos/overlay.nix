# SPDX-License-Identifier: GPL-2.0-only OR MIT
# An overlay for nixpkgs: wg-vrf out of this clone, and wireguard-tools with its wg in the place of the C tool, so
# that wg-quick and NixOS's modules run it. README.md has the lines for a configuration.
final: prev:
let
  inherit (final) lib;
  root = ../..;
  inherit (fromTOML (builtins.readFile (root + "/Cargo.toml"))) package;
in
{
  wg-vrf = final.rustPlatform.buildRustPackage {
    pname = package.name;
    inherit (package) version;
    src = lib.fileset.toSource {
      inherit root;
      fileset = lib.fileset.difference root (lib.fileset.maybeMissing (root + "/target"));
    };
    cargoLock.lockFile = root + "/Cargo.lock";
    cargoBuildFlags = [ "--package=wg-vrf" "--bin=wg" ];
    # They make network namespaces, which a build has not.
    doCheck = false;
    nativeBuildInputs = [ final.installShellFiles ];
    postInstall = ''
      installManPage packaging/man/wg.8
      installShellCompletion packaging/completions/{wg.bash,wg.fish,_wg}
    '';
    # boot.kernelPatches = pkgs.wg-vrf.kernelPatches "6.12";
    passthru.kernelPatches =
      tree:
      let
        dir = root + "/kernel-patches/${tree}";
        lines = builtins.filter builtins.isString (builtins.split "\n" (builtins.readFile (dir + "/series")));
        isPatch = line: builtins.match "0.*[.]patch" line != null && line != "0000-cover-letter.patch";
      in
      map (name: { inherit name; patch = dir + "/${name}"; }) (builtins.filter isPatch lines);
    meta = {
      inherit (package) description;
      license = with lib.licenses; [ gpl2Only mit ];
      platforms = lib.platforms.linux;
      mainProgram = "wg";
    };
  };

  wireguard-tools = prev.wireguard-tools.overrideAttrs (old: {
    postFixup = (old.postFixup or "") + ''
      ln -sf ${final.wg-vrf}/bin/wg $out/bin/wg
      ln -sf ${final.wg-vrf}/share/man/man8/wg.8.gz $man/share/man/man8/
    '';
  });
}
