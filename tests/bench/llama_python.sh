# Sourced by peers.sh and tests/llama.sh, which set folder: $python is one with numpy and llama-cpp-python: PEERS_PYTHON,
# or one that is made in $folder/venv. Ends with 77 where it cannot be had.
mkdir -p "$folder"
python=${PEERS_PYTHON:-$folder/venv/bin/python}
if [ -n "${PEERS_PYTHON:-}" ]; then
    command -v "$python" >/dev/null || { echo "PEERS_PYTHON=$python is no program"; exit 1; }
elif [ ! -x "$python" ]; then
    echo "installing llama-cpp-python into $folder/venv (its C++ is compiled here: some minutes)"
    python3 -m venv "$folder/venv" && CMAKE_ARGS="-DGGML_NATIVE=ON" "$folder/venv/bin/pip" -q install numpy llama-cpp-python ||
        { echo "SKIPPED: llama.cpp cannot be installed (no pip, no network, no cmake?)"; rm -rf "$folder/venv"; exit 77; }
fi
