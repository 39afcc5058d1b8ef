# Tandem for Spack: put this file into a repository of your own as packages/tandem/package.py, with
# the place of the source as `git`.
from spack.package import *

try:  # Spack 1.0 and later
    from spack_repo.builtin.build_systems.cuda import CudaPackage
    from spack_repo.builtin.build_systems.makefile import MakefilePackage
except ImportError:
    pass


class Tandem(MakefilePackage, CudaPackage):
    """Batch decoder for large mixture-of-experts language models with attention-FFN disaggregation."""

    license("Apache-2.0")
    version("main", branch="main")

    depends_on("c", type="build")
    depends_on("gmake", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("mpi")
    depends_on("hdf5~mpi@1.10:")
    depends_on("libyaml")
    depends_on("jansson")
    depends_on("pcre2")
    depends_on("zlib-api")
    depends_on("nccl@2.18:", when="+cuda")
    depends_on("cuda@12.0:", when="+cuda")

    def settings(self):
        spec = self.spec
        found = ["CUDA=1" if "+cuda" in spec else "CUDA=0", f"PREFIX={self.prefix}"]
        if "+cuda" in spec:
            found += [f"CUDA_HOME={spec['cuda'].prefix}", f"NCCL_HOME={spec['nccl'].prefix}"]
            archs = spec.variants["cuda_arch"].value
            if "none" not in archs:
                found.append("CUDA_ARCHS=" + " ".join(archs))
        return found

    def build(self, spec, prefix):
        make(*self.settings())

    def install(self, spec, prefix):
        make("install", *self.settings())
