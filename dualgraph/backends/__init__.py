"""What PyTorch has of its libraries' switches, for programs that set or ask them.

The flags are kept and change nothing: NumPy's BLAS, CuPy's cuBLAS and dualgraph's own compiled code
choose their algorithms themselves. `native` alone is a switch: of compiled code in eager mode.
"""

from . import cpu as cpu
from . import cuda as cuda
from . import cudnn as cudnn
from . import mkl as mkl
from . import mkldnn as mkldnn
from . import mps as mps
from . import native as native
from . import openmp as openmp
from . import opt_einsum as opt_einsum
