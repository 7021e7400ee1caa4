"""The papers this package makes predictions from, and their BibTeX."""

from __future__ import annotations

from theory.base import Reference

ACTIVE_DORMANT = Reference(
    key="guo2024active",
    authors=("Tianyu Guo", "Druv Pai", "Yu Bai", "Jiantao Jiao", "Michael I. Jordan", "Song Mei"),
    title="Active-Dormant Attention Heads: Mechanistically Demystifying Extreme-Token Phenomena in LLMs",
    arxiv="2410.13835",
    year=2024,
)
SINK_EMERGES = Reference(
    key="gu2024when",
    authors=(
        "Xiangming Gu",
        "Tianyu Pang",
        "Chao Du",
        "Qian Liu",
        "Fengzhuo Zhang",
        "Cunxiao Du",
        "Ye Wang",
        "Min Lin",
    ),
    title="When Attention Sink Emerges in Language Models: An Empirical View",
    arxiv="2410.10781",
    year=2024,
)
SINKS_NECESSARY = Reference(
    key="ranmilo2026attention",
    authors=("Yuval Ran-Milo",),
    title="Attention Sinks Are Provably Necessary in Softmax Transformers: Evidence from Trigger-Conditional Tasks",
    arxiv="2603.11487",
    year=2026,
)
REGRESSION_DEMYSTIFIED = Reference(
    key="he2025incontext",
    authors=("Jianliang He", "Xintian Pan", "Siyu Chen", "Zhuoran Yang"),
    title="In-Context Linear Regression Demystified: Training Dynamics and Mechanistic Interpretability of Multi-Head "
    "Softmax Attention",
    arxiv="2503.12734",
    year=2025,
)
TRAINED_TRANSFORMERS = Reference(
    key="zhang2023trained",
    authors=("Ruiqi Zhang", "Spencer Frei", "Peter L. Bartlett"),
    title="Trained Transformers Learn Linear Models In-Context",
    arxiv="2306.09927",
    year=2023,
)
PRECONDITIONED_DESCENT = Reference(
    key="ahn2023transformers",
    authors=("Kwangjun Ahn", "Xiang Cheng", "Hadi Daneshmand", "Suvrit Sra"),
    title="Transformers learn to implement preconditioned gradient descent for in-context learning",
    arxiv="2306.00297",
    year=2023,
)
ONE_STEP_OPTIMAL = Reference(
    key="mahankali2023one",
    authors=("Arvind Mahankali", "Tatsunori B. Hashimoto", "Tengyu Ma"),
    title="One Step of Gradient Descent is Provably the Optimal In-Context Learner with One Layer of Linear "
    "Self-Attention",
    arxiv="2307.03576",
    year=2023,
)
LEARN_BY_DESCENT = Reference(
    key="vonoswald2022transformers",
    authors=(
        "Johannes von Oswald",
        "Eyvind Niklasson",
        "Ettore Randazzo",
        "João Sacramento",
        "Alexander Mordvintsev",
        "Andrey Zhmoginov",
        "Max Vladymyrov",
    ),
    title="Transformers learn in-context by gradient descent",
    arxiv="2212.07677",
    year=2022,
)
FUNCTION_CLASSES = Reference(
    key="garg2022what",
    authors=("Shivam Garg", "Dimitris Tsipras", "Percy Liang", "Gregory Valiant"),
    title="What Can Transformers Learn In-Context? A Case Study of Simple Function Classes",
    arxiv="2208.01066",
    year=2022,
)
PRETRAINING_TASKS = Reference(
    key="wu2023how",
    authors=("Jingfeng Wu", "Difan Zou", "Zixiang Chen", "Vladimir Braverman", "Quanquan Gu", "Peter L. Bartlett"),
    title="How Many Pretraining Tasks Are Needed for In-Context Learning of Linear Regression?",
    arxiv="2310.08391",
    year=2023,
)
SIGMOID_ATTENTION = Reference(
    key="ramapuram2024theory",
    authors=(
        "Jason Ramapuram",
        "Federico Danieli",
        "Eeshan Dhekane",
        "Floris Weers",
        "Dan Busbridge",
        "Pierre Ablin",
        "Tatiana Likhomanenko",
        "Jagrit Digani",
        "Zijin Gu",
        "Amitis Shidani",
        "Russ Webb",
    ),
    title="Theory, Analysis, and Best Practices for Sigmoid Self-Attention",
    arxiv="2409.04431",
    year=2024,
)
SMOOTH_ATTENTION = Reference(
    key="castin2023how",
    authors=("Valérie Castin", "Pierre Ablin", "Gabriel Peyré"),
    title="How Smooth Is Attention?",
    arxiv="2312.14820",
    year=2023,
)
SOFTPLUS_ATTENTION = Reference(
    key="gao2025softplus",
    authors=("Bo Gao", "Michael W. Spratling", "Letizia Gionfrida"),
    title="Softplus Attention with Re-weighting Boosts Length Extrapolation in Large Language Models",
    arxiv="2501.13428",
    year=2025,
)
SELECTIVE_ATTENTION = Reference(
    key="zhang2024selective",
    authors=(
        "Xuechen Zhang",
        "Xiangyu Chang",
        "Mingchen Li",
        "Amit Roy-Chowdhury",
        "Jiasi Chen",
        "Samet Oymak",
    ),
    title="Selective Attention: Enhancing Transformer through Principled Context Control",
    arxiv="2411.12892",
    year=2024,
)
DYNAMICAL_SYSTEMS = Reference(
    key="sieber2024understanding",
    authors=("Jerome Sieber", "Carmen Amo Alonso", "Alexandre Didier", "Melanie N. Zeilinger", "Antonio Orvieto"),
    title="Understanding the differences in Foundation Models: Attention, State Space Models, and Recurrent Neural "
    "Networks",
    arxiv="2405.15731",
    year=2024,
)
PAVLOVIAN = Reference(
    key="qiao2025understanding",
    authors=("Mu Qiao",),
    title="Understanding Transformers through the Lens of Pavlovian Conditioning",
    arxiv="2508.08289",
    year=2025,
)
NEGATIVE_EIGENVALUES = Reference(
    key="grazzi2024unlocking",
    authors=(
        "Riccardo Grazzi",
        "Julien Siems",
        "Arber Zela",
        "Jörg K. H. Franke",
        "Frank Hutter",
        "Massimiliano Pontil",
    ),
    title="Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues",
    arxiv="2411.12537",
    year=2024,
)
INLINE_ATTENTION = Reference(
    key="han2024bridging",
    authors=(
        "Dongchen Han",
        "Yifan Pu",
        "Zhuofan Xia",
        "Yizeng Han",
        "Xuran Pan",
        "Xiu Li",
        "Jiwen Lu",
        "Shiji Song",
        "Gao Huang",
    ),
    title="Bridging the Divide: Reconsidering Softmax and Linear Attention",
    arxiv="2412.06590",
    year=2024,
)
LOCAL_LINEAR = Reference(
    key="zuo2025local",
    authors=("Yifei Zuo", "Yutong Yin", "Zhichen Zeng", "Ang Li", "Banghua Zhu", "Zhaoran Wang"),
    title="Local Linear Attention: An Optimal Interpolation of Linear and Softmax Attention For Test-Time Regression",
    arxiv="2510.01450",
    year=2025,
)
ZOOLOGY = Reference(
    key="arora2023zoology",
    authors=(
        "Simran Arora",
        "Sabri Eyuboglu",
        "Aman Timalsina",
        "Isys Johnson",
        "Michael Poli",
        "James Zou",
        "Atri Rudra",
        "Christopher Ré",
    ),
    title="Zoology: Measuring and Improving Recall in Efficient Language Models",
    arxiv="2312.04927",
    year=2023,
)
RECALL_THROUGHPUT = Reference(
    key="arora2024simple",
    authors=(
        "Simran Arora",
        "Sabri Eyuboglu",
        "Michael Zhang",
        "Aman Timalsina",
        "Silas Alberti",
        "Dylan Zinsley",
        "James Zou",
        "Atri Rudra",
        "Christopher Ré",
    ),
    title="Simple linear attention language models balance the recall-throughput tradeoff",
    arxiv="2402.18668",
    year=2024,
)
ILLUSION_OF_STATE = Reference(
    key="merrill2024illusion",
    authors=("William Merrill", "Jackson Petty", "Ashish Sabharwal"),
    title="The Illusion of State in State-Space Models",
    arxiv="2404.08819",
    year=2024,
)
DELTA_PRODUCT = Reference(
    key="siems2025deltaproduct",
    authors=(
        "Julien Siems",
        "Timur Carstensen",
        "Arber Zela",
        "Frank Hutter",
        "Massimiliano Pontil",
        "Riccardo Grazzi",
    ),
    title="DeltaProduct: Improving State-Tracking in Linear RNNs via Householder Products",
    arxiv="2502.10297",
    year=2025,
)
SHORTCUTS = Reference(
    key="liu2022transformers",
    authors=("Bingbin Liu", "Jordan T. Ash", "Surbhi Goel", "Akshay Krishnamurthy", "Cyril Zhang"),
    title="Transformers Learn Shortcuts to Automata",
    arxiv="2210.10749",
    year=2022,
)
BARRINGTON = Reference(
    key="barrington1989bounded",
    authors=("David A. Barrington",),
    title="Bounded-Width Polynomial-Size Branching Programs Recognize Exactly Those Languages in NC1",
    arxiv="",
    year=1989,
)

REFERENCES: tuple[Reference, ...] = (
    ACTIVE_DORMANT,
    SINK_EMERGES,
    SINKS_NECESSARY,
    REGRESSION_DEMYSTIFIED,
    TRAINED_TRANSFORMERS,
    PRECONDITIONED_DESCENT,
    ONE_STEP_OPTIMAL,
    LEARN_BY_DESCENT,
    FUNCTION_CLASSES,
    PRETRAINING_TASKS,
    SIGMOID_ATTENTION,
    SMOOTH_ATTENTION,
    SOFTPLUS_ATTENTION,
    SELECTIVE_ATTENTION,
    DYNAMICAL_SYSTEMS,
    PAVLOVIAN,
    NEGATIVE_EIGENVALUES,
    INLINE_ATTENTION,
    LOCAL_LINEAR,
    ZOOLOGY,
    RECALL_THROUGHPUT,
    ILLUSION_OF_STATE,
    DELTA_PRODUCT,
    SHORTCUTS,
    BARRINGTON,
)


def bibtex(reference: Reference) -> str:
    """The BibTeX entry of a reference; its section, if any, goes to the `note` field.

    Example:
      >>> print(bibtex(SINKS_NECESSARY).splitlines()[0])
      @misc{ranmilo2026attention,
    """
    fields = {
        "author": " and ".join(reference.authors),
        "title": "{" + reference.title + "}",
        "year": str(reference.year),
    }
    if reference.arxiv:
        fields |= {"eprint": reference.arxiv, "archivePrefix": "arXiv"}
    if reference.section:
        fields["note"] = reference.section
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@misc{{{reference.key},\n{body}\n}}"
