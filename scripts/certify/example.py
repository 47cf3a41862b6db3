from certify.document import Case, Family, Note
from certify.problem import Problem, PrecisionProblem
nan=float("nan")
def FAMILIES():
    return [Family("example","Hand-checked: format only.",{"Basic":Note("basic","Small numbers.","Wrong everywhere."),"InvalidNaN":Note("validation","A NaN among the inputs.","NaN out."),
     "UpperTriangle":Note("policy","Numbers above the diagonal of the factor.","Reject, or ignore them.")},[
      Case("lower","N = K = D = 1 at the mode: nll is (1/2) log(2 pi).",Problem([0.0],[[0.0]],[[[1.0]]],[[0.0]]),("Basic",)),
      Case("lower","Two correlated components.",Problem([0.5,-0.25],[[0.5,1.0],[-1.5,0.25]],[[[1.5,0.0],[0.5,0.75]],[[0.5,0.0],[-.25,2.0]]],[[0.25,1.5],[-2.,3.]]),("Basic",)),
      Case("lower","The same, summed, with weights and repeated rows.",Problem([0.5,-0.25],[[0.5,1.0],[-1.5,0.25]],[[[1.5,0.0],[0.5,0.75]],[[0.5,0.0],[-.25,2.0]]],[[0.25,1.5],[-2.,3.]],count=[2,1],weights=[1.5,0.5],reduction="sum"),("Basic",)),
      Case("lower","In binary32.",Problem([0.5,-0.25],[[0.5],[-1.5]],[[[1.5]],[[0.5]]],[[0.25],[-2.]],dtype="binary32"),("Basic",)),
      Case("lower","A gradient beyond the range.",Problem([0.5,-0.25],[[0.5],[-1.5]],[[[1.5]],[[0.5]]],[[0.25e200],[-2.]]),("Basic",)),
      Case("lower","A component that is off.",Problem([0.5,-float("inf")],[[0.5],[-1.5]],[[[1.5]],[[0.5]]],[[0.25],[-2.]]),("Basic",)),
      Case("lower","NaN.",Problem([0.5],[[0.5]],[[[1.5]]],[[nan]]),("InvalidNaN",),"invalid"),
      Case("lower","Garbage above the diagonal.",Problem([0.5],[[0.5,1.0]],[[[1.5,7.0],[0.5,2.0]]],[[1.0,0.0]]),("UpperTriangle",),"either"),
    ])]
