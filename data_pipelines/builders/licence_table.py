"""The licences of all datasets, as their owners state them: what `licence.json` beside prepared data says.

It is what owners say, read in November 2026, and no legal advice. Nobody has asked what a licence of pictures means for
a network that has seen them; whoever ships weights decides that. What is not stated is "unknown", which is not "yes".
"""

from collections.abc import Mapping

from data_pipelines.records.licences import Licence

P3M = Licence(
    "MIT, as its release agreement is titled",
    "https://jizhizili.github.io/files/p3m_dataset_agreement/P3M-10k_Dataset_Release_Agreement.pdf",
    "yes",
    "P3M-10k: Li, Ma, Zhang and Tao, Privacy-Preserving Portrait Matting, 2021",
)

LICENCES: Mapping[str, Licence] = {
    "synthhuman": Licence(
        "CDLA-Permissive-2.0",
        "https://cdla.dev/permissive-2-0/",
        "yes",
        "SynthHuman: Microsoft; Saleh et al., DAViD, 2025",
    ),
    "pass_backgrounds": Licence(
        "CC-BY",
        "https://zenodo.org/record/6615455",
        "yes",
        "PASS: Asano, Rupprecht, Zisserman and Vedaldi, 2021; the photographers are named in its pass_metadata.csv",
    ),
    "p3m_10k": P3M,
    "p3m_500": P3M,
    "bg_20k": Licence(
        "MIT, as its release agreement is titled",
        "https://github.com/JizhiziLi/GFM",
        "yes",
        "BG-20k: Li, Zhang, Maybank and Tao, Bridging Composite and Real, 2021",
    ),
    "coco_person/free": Licence(
        "CC-BY-4.0, its pictures CC-BY-2.0 or free of copyright",
        "https://cocodataset.org/#termsofuse",
        "yes",
        "COCO: Lin et al., 2014; each picture's photographer by its flickr_url in COCO's annotations",
    ),
    "coco_person": Licence(
        "CC-BY-4.0, its pictures of eight licences, some non-commercial",
        "https://cocodataset.org/#termsofuse",
        "no",
        "COCO: Lin et al., 2014; each picture's photographer by its flickr_url in COCO's annotations",
    ),
    "video_matte_240k": Licence(
        "none stated",
        "https://grail.cs.washington.edu/projects/background-matting-v2/",
        "unknown",
        "VideoMatte240K: Lin et al., Real-Time High-Resolution Background Matting, 2021",
    ),
    "image_matte": Licence(
        "two agreements with their owners, for research",
        "https://sites.google.com/view/deepimagematting",
        "no",
        "Distinctions-646: Qiao et al., 2020; Adobe Image Matting: Xu et al., 2017",
    ),
    "dvm_backgrounds": Licence(
        "none stated", "https://github.com/nowsyn/DVM", "unknown", "DVM: Sun et al., Deep Video Matting, 2021"
    ),
    "youtube_vis_2021": Licence(
        "terms of the challenge; the videos are their uploaders'",
        "https://youtube-vos.org/dataset/vis/",
        "unknown",
        "YouTube-VIS: Yang, Fan and Xu, 2019",
    ),
    "supervisely_person": Licence("for research", "https://supervisely.com", "no", "Supervisely Person: Supervisely"),
    "youtubematte": Licence(
        "NTU S-Lab License 1.0",
        "https://github.com/pq-yang/MatAnyone",
        "no",
        "YouTubeMatte: Yang et al., MatAnyone, 2025",
    ),
    "crgnn_real": Licence(
        "none stated for the videos; their owners' code is for non-commercial purposes",
        "https://github.com/TiantianWang/VideoMatting-CRGNN",
        "no",
        "CRGNN: Wang et al., Video Matting via Consistency-Regularized Graph Neural Networks, 2021",
    ),
    "synthetic": Licence(
        "Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0", "yes", "rvm-jax, which draws them from a seed"
    ),
    "background_images": Licence("your own: write it here", "", "unknown", ""),
    "footage": Licence("your own: write it here", "", "unknown", ""),
}
