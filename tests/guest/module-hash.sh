#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The module tests its hashing when it is loaded, says what it hashes with, and measures on request.
#: modules: none
#: available: embrfs
. /embrfs-guest/lib.sh
must load_module embrfs
said=$(dmesg | grep 'embrfs: hashing by ' | tail -n 1)
say "$said"
expect_in "$said" 'hashing by (AVX-512|AVX2|SSE4.1|scalar code: .+)$'
if dmesg | grep -q 'gives wrong results'; then fail "SIMD and scalar hashing differ"; fi
must unload_module embrfs
must load_module embrfs hash_bench=1
must sh -c "dmesg | grep 'embrfs: hash_bench: '"
expect_in "$OUT" 'scalar, one block per call: [0-9]+ MB/s'
expect_in "$OUT" 'scalar, 16 blocks per call: [0-9]+ MB/s'
case $said in
*scalar*) ;;
*)
	expect_in "$OUT" '(AVX-512|AVX2|SSE4.1), one block per call: [0-9]+ MB/s'
	expect_in "$OUT" '(AVX-512|AVX2|SSE4.1), 16 blocks per call: [0-9]+ MB/s'
	;;
esac
must unload_module embrfs
