/** @file
  What the firmware's handler of #VC takes for what: run as a program, before the firmware is built of the same files.

  The host may inject #VC at any instruction, with any exit code. Only for the instructions that cause it may the handler ask
  the host, whose answer goes into registers.

  SPDX-License-Identifier: BSD-2-Clause-Patent
**/

#include <Base.h>
#include <Library/PcdLib.h>

#define _PCD_GET_MODE_32_PcdOvmfCpuidBase        0
#define _PCD_VALUE_PcdCpuLocalApicBaseAddress    LOCAL_APIC
#define _PCD_VALUE_PcdSevEsWorkAreaBase          WORK_AREA
#define _PCD_VALUE_PcdOvmfSecGhcbBackupBase      0
#define _PCD_VALUE_PcdOvmfSecGhcbBackupSize      SIZE_4KB
#define LOCAL_APIC                               0xFEE00000
#define WORK_AREA                                0x80B004

#include "CcInstruction.c"
#include "CcExitVcHandler.c"
// Either phase's: PeiDxeCcExitVcHandler.c or SecCcExitVcHandler.c.
#include HANDLER

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

// With the page behind it that the handler keeps its count in.
STATIC GHCB     mGhcb[2];
// What the host was asked.
STATIC UINT64   mAsked;
STATIC jmp_buf  mStop;

//
// The host, which answers whatever it is asked.
//

UINT64 EFIAPI
CcExitVmgExit (GHCB *Ghcb, UINT64 ExitCode, UINT64 Info1, UINT64 Info2)
{
  if (ExitCode != SVM_EXIT_UNSUPPORTED) {
    mAsked = ExitCode;
  }

  Ghcb->SaveArea.Rax = Ghcb->SaveArea.Rcx = Ghcb->SaveArea.Rdx = 0x41414141;
  memset (Ghcb->SharedBuffer, 0x42, sizeof (Ghcb->SharedBuffer));
  return 0;
}

UINT64 EFIAPI
AsmReadMsr64 (UINT32 Index)
{
  printf ("a register that the host answers for is read: %x\n", Index);
  exit (1);
}

//
// The machine.
//

MEM_ENCRYPT_SEV_ADDRESS_RANGE_STATE EFIAPI
MemEncryptSevGetAddressRangeState (PHYSICAL_ADDRESS Cr3, PHYSICAL_ADDRESS Address, UINTN Length)
{
  return (Address < SIZE_512MB) ? MemEncryptSevAddressRangeEncrypted : MemEncryptSevAddressRangeUnencrypted;
}

VOID EFIAPI
DebugAssert (CONST CHAR8 *File, UINTN Line, CONST CHAR8 *What)
{
  longjmp (mStop, 1);
}

VOID EFIAPI    CpuDeadLoop (VOID) { longjmp (mStop, 1); }
BOOLEAN EFIAPI DebugAssertEnabled (VOID) { return TRUE; }
BOOLEAN EFIAPI DebugPrintEnabled (VOID) { return FALSE; }
BOOLEAN EFIAPI DebugPrintLevelEnabled (CONST UINTN Level) { return FALSE; }
VOID EFIAPI    DebugPrint (UINTN Level, CONST CHAR8 *Format, ...) {}
VOID *EFIAPI   CopyMem (VOID *To, CONST VOID *From, UINTN Size) { return memmove (To, From, Size); }
VOID *EFIAPI   SetMem (VOID *To, UINTN Size, UINT8 Value) { return memset (To, Value, Size); }
VOID *EFIAPI   ZeroMem (VOID *To, UINTN Size) { return memset (To, 0, Size); }
BOOLEAN EFIAPI GetInterruptState (VOID) { return FALSE; }
VOID EFIAPI    DisableInterrupts (VOID) {}
VOID EFIAPI    EnableInterrupts (VOID) {}
VOID EFIAPI    CcExitVmgInit (GHCB *Ghcb, BOOLEAN *State) {}
VOID EFIAPI    CcExitVmgDone (GHCB *Ghcb, BOOLEAN State) {}
VOID EFIAPI    CcExitVmgSetOffsetValid (GHCB *Ghcb, GHCB_REGISTER Offset) {}
BOOLEAN EFIAPI CcExitVmgIsOffsetValid (GHCB *Ghcb, GHCB_REGISTER Offset) { return TRUE; }
BOOLEAN EFIAPI MemEncryptSevEsDebugVirtualizationIsEnabled (VOID) { return FALSE; }
BOOLEAN EFIAPI MemEncryptSevSnpIsEnabled (VOID) { return TRUE; }
BOOLEAN EFIAPI AmdSvsmIsSvsmPresent (VOID) { return FALSE; }
UINT64 EFIAPI  AmdSvsmSnpGetCaa (VOID) { return 0; }
UINT32 EFIAPI  AsmReadMsr32 (UINT32 Index) { return 0; }
UINT32 EFIAPI  GetInitialApicId (VOID) { return 0; }
UINTN EFIAPI   AsmReadCr4 (VOID) { return 0; }
UINT64 EFIAPI  AsmXGetBv (UINT32 Index) { return 0; }

//
// The instructions.
//

typedef struct {
  UINT64    ExitCode;
  UINT64    Rcx;
  UINT8     Length;
  UINT8     Code[15];
  CHAR8     *Name;
} INSTRUCTION;

STATIC CONST INSTRUCTION  mCauses[] = {
  { SVM_EXIT_RDTSC,     0,                  2,  { 0x0F, 0x31 },          "rdtsc"                          },
  { SVM_EXIT_RDPMC,     0,                  2,  { 0x0F, 0x33 },          "rdpmc"                          },
  { SVM_EXIT_MSR,       0x1B,               2,  { 0x0F, 0x32 },          "rdmsr"                          },
  { SVM_EXIT_MSR,       0x1B,               2,  { 0x0F, 0x30 },          "wrmsr"                          },
  { SVM_EXIT_WBINVD,    0,                  2,  { 0x0F, 0x09 },          "wbinvd"                         },
  { SVM_EXIT_INVD,      0,                  2,  { 0x0F, 0x08 },          "invd"                           },
  { SVM_EXIT_VMMCALL,   0,                  3,  { 0x0F, 0x01, 0xD9 },    "vmmcall"                        },
  { SVM_EXIT_MONITOR,   0,                  3,  { 0x0F, 0x01, 0xC8 },    "monitor"                        },
  { SVM_EXIT_MWAIT,     0,                  3,  { 0x0F, 0x01, 0xC9 },    "mwait"                          },
  { SVM_EXIT_DR7_WRITE, 0,                  3,  { 0x0F, 0x23, 0xF8 },    "mov dr7, rax"                   },
  { SVM_EXIT_IOIO_PROT, 0,                  1,  { 0xEC },                "in al, dx"                      },
  { SVM_EXIT_IOIO_PROT, 0,                  2,  { 0x66, 0xED },          "in ax, dx"                      },
  { SVM_EXIT_IOIO_PROT, 0,                  1,  { 0xEF },                "out dx, eax"                    },
  { SVM_EXIT_NPF,       LOCAL_APIC + 0x20,  2,  { 0x8B, 0x01 },          "mov eax, [rcx]"                 },
  { SVM_EXIT_NPF,       LOCAL_APIC + 0xB0,  2,  { 0x89, 0x19 },          "mov [rcx], ebx"                 },
  { SVM_EXIT_NPF,       LOCAL_APIC,         10, { 0xC7, 0x81, 0xB0 },    "mov dword [rcx + 0xb0], 0"      },
  { SVM_EXIT_NPF,       LOCAL_APIC,         3,  { 0x0F, 0xB7, 0x19 },    "movzx ebx, word [rcx]"          },
  { SVM_EXIT_NPF,       LOCAL_APIC + 0xFFF, 2,  { 0x8A, 0x01 },          "mov al, [rcx], the last byte"   },
};

STATIC CONST INSTRUCTION  mOthers[] = {
  { SVM_EXIT_RDTSC,     0,                  1,  { 0x90 },                "nop, as rdtsc"                  },
  { SVM_EXIT_RDTSC,     0,                  2,  { 0x31, 0xC0 },          "xor eax, eax, as rdtsc"         },
  { SVM_EXIT_RDTSC,     0,                  3,  { 0x48, 0x31, 0xC0 },    "xor rax, rax, as rdtsc"         },
  { SVM_EXIT_RDPMC,     0,                  2,  { 0x33, 0xC0 },          "xor eax, eax, as rdpmc"         },
  { SVM_EXIT_MSR,       0,                  2,  { 0x32, 0x32 },          "xor dh, [rdx], as rdmsr"        },
  { SVM_EXIT_MSR,       0xC0010130,         2,  { 0x0F, 0x32 },          "rdmsr of the GHCB's register"   },
  { SVM_EXIT_MSR,       0xC0010131,         2,  { 0x0F, 0x32 },          "rdmsr of SEV_STATUS"            },
  { SVM_EXIT_WBINVD,    0,                  2,  { 0x09, 0xC0 },          "or eax, eax, as wbinvd"         },
  { SVM_EXIT_INVD,      0,                  2,  { 0x08, 0xC0 },          "or al, al, as invd"             },
  { SVM_EXIT_RDTSCP,    0,                  2,  { 0x01, 0xF9 },          "add ecx, edi, as rdtscp"        },
  { SVM_EXIT_VMMCALL,   0,                  2,  { 0x01, 0xD9 },          "add ecx, ebx, as vmmcall"       },
  { SVM_EXIT_MONITOR,   0,                  2,  { 0x01, 0xC8 },          "add eax, ecx, as monitor"       },
  { SVM_EXIT_MWAIT,     0,                  2,  { 0x01, 0xC9 },          "add ecx, ecx, as mwait"         },
  { SVM_EXIT_DR7_READ,  0,                  2,  { 0x21, 0xF8 },          "and eax, edi, as mov from dr7"  },
  { SVM_EXIT_DR7_WRITE, 0,                  2,  { 0x23, 0xF8 },          "and edi, eax, as mov to dr7"    },
  { SVM_EXIT_CPUID,     0,                  9,  { 0xA2 },                "mov [0], al, as cpuid"          },
  { SVM_EXIT_NPF,       0,                  1,  { 0x90 },                "nop, as access"                 },
  { SVM_EXIT_NPF,       SIZE_1MB,           2,  { 0x8B, 0x01 },          "mov eax, [rcx], memory"         },
  { SVM_EXIT_NPF,       SIZE_2GB,           2,  { 0x8B, 0x01 },          "mov eax, [rcx], nothing there"  },
  { SVM_EXIT_NPF,       LOCAL_APIC + 0xFFE, 2,  { 0x8B, 0x01 },          "mov eax, [rcx], beyond"         },
  { SVM_EXIT_NPF,       LOCAL_APIC - 2,     2,  { 0x8B, 0x01 },          "mov eax, [rcx], before"         },
  { SVM_EXIT_NPF,       LOCAL_APIC,         2,  { 0x8B, 0xC1 },          "mov eax, ecx"                   },
  { SVM_EXIT_NPF,       LOCAL_APIC,         6,  { 0xC7, 0xC1, 0x01 },    "mov ecx, 1"                     },
  { SVM_EXIT_NPF,       LOCAL_APIC,         3,  { 0x0F, 0xB7, 0xD9 },    "movzx ebx, cx"                  },
  { SVM_EXIT_NPF,       LOCAL_APIC,         3,  { 0x0F, 0xBE, 0xD9 },    "movsx ebx, cl"                  },
  { SVM_EXIT_NPF,       LOCAL_APIC,         2,  { 0xB6, 0x19 },          "mov dh, 0x19"                   },
  { SVM_EXIT_NPF,       LOCAL_APIC,         5,  { 0xBF, 0x19 },          "mov edi, 0x19"                  },
  { SVM_EXIT_NPF,       LOCAL_APIC,         6,  { 0x0F, 0x88, 0x19 },    "js"                             },
  { SVM_EXIT_NPF,       LOCAL_APIC,         6,  { 0x0F, 0x8B, 0x19 },    "jnp"                            },
  { SVM_EXIT_NPF,       LOCAL_APIC,         4,  { 0x0F, 0xC6, 0x01 },    "shufps xmm0, [rcx], 0"          },
};

// A register whose value the firmware has itself. Which one is meant is in RCX; its number is always in RAX here.
STATIC CONST INSTRUCTION  mOwn = { SVM_EXIT_MSR, MSR_SVSM_CAA, 2, { 0x0F, 0x32 }, "rdmsr of the SVSM's calling area" };

/**
  By how many bytes the handler goes on; by none if it refuses.
**/
STATIC UINTN
Handle (CONST INSTRUCTION *Instruction)
{
  EFI_SYSTEM_CONTEXT_X64  Before, Registers;
  EFI_SYSTEM_CONTEXT      Context;
  EFI_EXCEPTION_TYPE      Type;

  memset (&Before, 0, sizeof (Before));
  Before.Rip           = (UINTN)Instruction->Code;
  Before.Rax           = MSR_SVSM_CAA;
  Before.Rcx           = Instruction->Rcx;
  Before.ExceptionData = Instruction->ExitCode;

  Registers                = Before;
  Context.SystemContextX64 = &Registers;
  Type                     = VC_EXCEPTION;
  mAsked                   = 0;
  if ((setjmp (mStop) == 0) && (CcExitHandleVc (&Type, Context) == EFI_SUCCESS)) {
    return Registers.Rip - Before.Rip;
  }

  //
  // The machine stops, or has an exception that nothing handles: with nothing from the host.
  //
  Registers.ExceptionData = Before.ExceptionData;
  if ((mAsked != 0) || (memcmp (&Before, &Registers, sizeof (Before)) != 0)) {
    printf ("%s: refused, too late\n", Instruction->Name);
    exit (1);
  }

  ((SEV_ES_PER_CPU_DATA *)&mGhcb[1])->VcCount = 0;
  return 0;
}

int
main (void)
{
  UINTN  Index;
  int    Wrong;
  VOID   *Page;

  Page = mmap (
           (VOID *)(UINTN)(WORK_AREA & ~EFI_PAGE_MASK),
           EFI_PAGE_SIZE,
           PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
           -1,
           0
           );
  if (Page == MAP_FAILED) {
    perror ("the work area");
    return 1;
  }

  SEV_ES_GHCB_BASE = (UINTN)mGhcb;
  Wrong            = 0;
  for (Index = 0; Index < ARRAY_SIZE (mCauses); Index++) {
    if ((Handle (&mCauses[Index]) != mCauses[Index].Length) || (mAsked == 0)) {
      printf ("not handled: %s\n", mCauses[Index].Name);
      Wrong = 1;
    }
  }

  for (Index = 0; Index < ARRAY_SIZE (mOthers); Index++) {
    if (Handle (&mOthers[Index]) != 0) {
      printf ("handled: %s\n", mOthers[Index].Name);
      Wrong = 1;
    }
  }

  if ((Handle (&mOwn) != mOwn.Length) || (mAsked != 0)) {
    printf ("asked of the host: %s\n", mOwn.Name);
    Wrong = 1;
  }

  return Wrong;
}
