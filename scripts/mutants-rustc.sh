#!/bin/sh
# RUSTC_WORKSPACE_WRAPPER of `xtask mutants`: only the crates of this workspace are compiled with the
# planted bugs, quickly rather than well; all others are those of the release.
exec "$@" --cfg mtor_mutants -C opt-level=1 -C codegen-units=8
