/** @file
  What happens to memory that the firmware validates: run as a program, with the firmware's own PVALIDATE.

  A page that was just validated is read at its first and its last byte, before anything else is done with it
  (AMD-SB-3014, CVE-2024-36331). That is counted here, access by access: memory that is given to the firmware can't be read
  without a signal. And the host is told which pages are meant through the GHCB that the firmware set up, wherever the host
  says that it is.

  SPDX-License-Identifier: BSD-2-Clause-Patent
**/

#define _GNU_SOURCE
#include <Base.h>
#include <Library/PcdLib.h>

#define _PCD_VALUE_PcdSevEsWorkAreaBase         WORK_AREA
#define _PCD_GET_MODE_32_PcdOvmfSnpSecretsBase  ((UINT32)(UINTN)mSecrets)
#define WORK_AREA                               0x80B004

STATIC UINT8  *mSecrets;
CHAR8         *gEfiCallerBaseName = "";

#include "SnpPageStateChangeInternal.c"
#undef PAGES_PER_2MB_ENTRY
#include "AmdSvsmLib.c"
#include "PeiDxeVirtualMemory.c"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

// Whole pages of 2 MiB, and what is known of each of 4 KiB.
#define RAM        0x40000000ULL
#define PAGES      2048
#define ENCRYPTED  BIT51

enum { OfHost, Private, Validated };

STATIC struct {
  UINT8     State;
  UINT8     Read;     // 1: its first byte, 2: its last
} mPages[PAGES];

STATIC GHCB                 mGhcb;
// The host has its pages in 4 KiB, whatever it was asked for.
STATIC BOOLEAN              mSmall;
STATIC UINT64               *mTable;
// Its leaves, where they matter: of the first 2 MiB.
STATIC PAGE_TABLE_4K_ENTRY  *mLeaves;
STATIC UINTN                mValidated, mReads;
STATIC volatile UINTN       mOpen;

STATIC VOID
Fail (CONST CHAR8 *Why, UINTN Address)
{
  printf ("%s: %llx\n", Why, (unsigned long long)Address);
  exit (1);
}

STATIC UINTN
Page (UINTN Address)
{
  if ((Address < RAM) || (Address >= RAM + PAGES * SIZE_4KB)) {
    Fail ("not the VM's memory", Address);
  }

  return (Address - RAM) / SIZE_4KB;
}

//
// The processor.
//

STATIC UINTN
Validate (UINTN Address, BOOLEAN Large, BOOLEAN To, BOOLEAN *Carry)
{
  UINTN  Index, Count;

  Count = Large ? SIZE_2MB / SIZE_4KB : 1;
  if (Large && (mSmall || (Address % SIZE_2MB != 0))) {
    return PVALIDATE_RET_SIZE_MISMATCH;
  }

  *Carry = FALSE;
  for (Index = Page (Address); Count > 0; Index++, Count--) {
    if (mPages[Index].State == OfHost) {
      Fail ("validated, and not the VM's", Address);
    }

    *Carry             |= (mPages[Index].State == Validated) == To;
    mPages[Index].State = To ? Validated : Private;
    mPages[Index].Read  = 0;
    mValidated         += To;
  }

  return 0;
}

STATIC VOID
OnFault (int Signal, siginfo_t *Info, VOID *Context)
{
  greg_t   *Registers;
  UINTN    Address, Index;
  BOOLEAN  Carry;

  Registers = ((ucontext_t *)Context)->uc_mcontext.gregs;
  if (memcmp ((VOID *)Registers[REG_RIP], "\xF2\x0F\x01\xFF", 4) == 0) {
    Carry               = FALSE;
    Registers[REG_RAX]  = Validate (Registers[REG_RAX], Registers[REG_RCX] & 1, Registers[REG_RDX] & 1, &Carry);
    Registers[REG_EFL]  = (Registers[REG_EFL] & ~1) | Carry;
    Registers[REG_RIP] += 4;
    return;
  }

  Address = (UINTN)Info->si_addr;
  Index   = Page (Address);
  if ((Signal != SIGSEGV) || ((Registers[REG_ERR] & 2) != 0)) {
    Fail ("written to", Address);
  }

  if (mPages[Index].State != Validated) {
    Fail ("read before it was validated", Address);
  }

  if ((mLeaves != NULL) && ((mLeaves[Index].Uint64 & ENCRYPTED) == 0)) {
    Fail ("read as if it were shared", Address);
  }

  if (Address % SIZE_4KB == 0) {
    mPages[Index].Read |= 1;
  } else if (Address % SIZE_4KB == SIZE_4KB - 1) {
    mPages[Index].Read |= 2;
  } else {
    Fail ("used before what the caches have of it was evicted", Address);
  }

  // This one instruction, and then as before.
  mReads++;
  mOpen = Address & ~EFI_PAGE_MASK;
  mprotect ((VOID *)mOpen, SIZE_4KB, PROT_READ);
  Registers[REG_EFL] |= 0x100;
}

STATIC VOID
OnStep (int Signal, siginfo_t *Info, VOID *Context)
{
  mprotect ((VOID *)mOpen, SIZE_4KB, PROT_NONE);
  ((ucontext_t *)Context)->uc_mcontext.gregs[REG_EFL] &= ~0x100;
}

//
// The host, and an SVSM where there is one.
//

UINT64 EFIAPI
CcExitVmgExit (GHCB *Ghcb, UINT64 ExitCode, UINT64 Info1, UINT64 Info2)
{
  SNP_PAGE_STATE_CHANGE_INFO  *Info;
  UINTN                       Index, Count;

  if ((Ghcb != &mGhcb) || (ExitCode != SVM_EXIT_SNP_PAGE_STATE_CHANGE)) {
    Fail ("another GHCB, or another request", (UINTN)Ghcb);
  }

  Info = (SNP_PAGE_STATE_CHANGE_INFO *)Ghcb->SharedBuffer;
  for ( ; Info->Header.CurrentEntry <= Info->Header.EndEntry; Info->Header.CurrentEntry++) {
    Index = Page (Info->Entry[Info->Header.CurrentEntry].GuestFrameNumber * SIZE_4KB);
    Count = Info->Entry[Info->Header.CurrentEntry].PageSize ? SIZE_2MB / SIZE_4KB : 1;
    for ( ; Count > 0; Index++, Count--) {
      if (mPages[Index].State == Validated) {
        Fail ("given to the host while it is validated", RAM + Index * SIZE_4KB);
      }

      mPages[Index].State =
        (Info->Entry[Info->Header.CurrentEntry].Operation == SNP_PAGE_STATE_PRIVATE) ? Private : OfHost;
    }
  }

  return 0;
}

UINT32 EFIAPI
AsmVmgExitSvsm (SVSM_CALL_DATA *Call)
{
  SVSM_PVALIDATE_REQUEST  *Request;
  UINTN                   Ret;
  BOOLEAN                 Carry;

  Request = (SVSM_PVALIDATE_REQUEST *)(UINTN)Call->RcxIn;
  for ( ; Request->Header.Next < Request->Header.Entries; Request->Header.Next++) {
    Ret = Validate (
            Request->Entry[Request->Header.Next].Bits.Address * SIZE_4KB,
            Request->Entry[Request->Header.Next].Bits.PageSize != 0,
            Request->Entry[Request->Header.Next].Bits.Action != 0,
            &Carry
            );
    if (Ret != 0) {
      return SVSM_ERR_PVALIDATE_FAIL_SIZE_MISMATCH;
    }
  }

  return 0;
}

UINT64 EFIAPI
AsmReadMsr64 (UINT32 Index)
{
  if ((Index != MSR_SEV_ES_GHCB) || (((SVSM_INFORMATION *)mSecrets)->SvsmSize == 0)) {
    Fail ("a register that the host answers for is read", Index);
  }

  return GHCB_INFO_SNP_VMPL_RESPONSE;
}

UINT64 EFIAPI  AsmWriteMsr64 (UINT32 Index, UINT64 Value) { return Value; }
VOID EFIAPI    AsmVmgExit (VOID) { Fail ("the firmware ends the VM", 0); }

//
// The rest of the machine.
//

VOID EFIAPI    DebugAssert (CONST CHAR8 *File, UINTN Line, CONST CHAR8 *What) { Fail (What, Line); }
VOID EFIAPI    CpuDeadLoop (VOID) { Fail ("the machine stops", 0); }
BOOLEAN EFIAPI DebugAssertEnabled (VOID) { return TRUE; }
BOOLEAN EFIAPI DebugPrintEnabled (VOID) { return FALSE; }
BOOLEAN EFIAPI DebugPrintLevelEnabled (CONST UINTN Level) { return FALSE; }
VOID EFIAPI    DebugPrint (UINTN Level, CONST CHAR8 *Format, ...) {}
VOID *EFIAPI   CopyMem (VOID *To, CONST VOID *From, UINTN Size) { return memmove (To, From, Size); }
VOID *EFIAPI   SetMem (VOID *To, UINTN Size, UINT8 Value) { return memset (To, Value, Size); }
VOID *EFIAPI   ZeroMem (VOID *To, UINTN Size) { return memset (To, 0, Size); }
VOID EFIAPI    MemoryFence (VOID) { __asm__ __volatile__ ("" ::: "memory"); }
BOOLEAN EFIAPI GetInterruptState (VOID) { return FALSE; }
VOID EFIAPI    DisableInterrupts (VOID) {}
VOID EFIAPI    EnableInterrupts (VOID) {}
VOID EFIAPI    CcExitVmgInit (GHCB *Ghcb, BOOLEAN *State) {}
VOID EFIAPI    CcExitVmgDone (GHCB *Ghcb, BOOLEAN State) {}
VOID EFIAPI    CcExitVmgSetOffsetValid (GHCB *Ghcb, GHCB_REGISTER Offset) {}
BOOLEAN EFIAPI MemEncryptSevSnpIsEnabled (VOID) { return TRUE; }
BOOLEAN EFIAPI MemEncryptSevIsEnabled (VOID) { return TRUE; }
UINT64 EFIAPI  MemEncryptSevGetEncryptionMask (VOID) { return ENCRYPTED; }
UINTN EFIAPI   AsmReadCr0 (VOID) { return 0; }
UINTN EFIAPI   AsmReadCr3 (VOID) { return (UINTN)mTable; }
VOID EFIAPI    CpuFlushTlb (VOID) {}
VOID *EFIAPI   WriteBackInvalidateDataCacheRange (VOID *Address, UINTN Length) { return Address; }

STATIC UINT64  mBuffer[EFI_PAGE_SIZE / 8];

VOID *EFIAPI   AllocateReservedPages (UINTN Pages) { return mBuffer; }
VOID *EFIAPI   AllocateAlignedPages (UINTN Pages, UINTN Alignment) { return NULL; }

//
// What is asked of the firmware.
//

/**
  Count of what was validated, and was read as it must be; what was validated before is not read again.
**/
STATIC VOID
Expect (CONST CHAR8 *What, UINTN First, UINTN Count)
{
  UINTN  Index;

  if ((mValidated != Count) || (mReads != 2 * Count)) {
    printf ("%s: %llu pages of %llu, %llu reads\n", What, mValidated, Count, mReads);
    exit (1);
  }

  for (Index = First; Index < First + Count; Index++) {
    if ((mPages[Index].State != Validated) || (mPages[Index].Read != 3)) {
      Fail (What, RAM + Index * SIZE_4KB);
    }
  }

  mValidated = mReads = 0;
}

STATIC VOID
Set (UINTN First, UINTN Count, SEV_SNP_PAGE_STATE State, BOOLEAN Large, UINTN Size)
{
  InternalSetPageState (RAM + First * SIZE_4KB, Count, State, Large, mBuffer, Size);
}

STATIC VOID *
Map (UINTN Address, UINTN Size, int Protection)
{
  VOID  *Mapped;

  Mapped = mmap ((VOID *)Address, Size, Protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (Mapped == MAP_FAILED) {
    perror ("mmap");
    exit (1);
  }

  return Mapped;
}

int
main (void)
{
  struct sigaction  Fault = { .sa_sigaction = OnFault, .sa_flags = SA_SIGINFO };
  struct sigaction  Step  = { .sa_sigaction = OnStep, .sa_flags = SA_SIGINFO };
  UINTN             Index;
  // Of SEC's buffer, in the work area, and of the later phases'.
  UINTN             Sizes[] = { 1024, EFI_PAGE_SIZE };

  sigaction (SIGILL, &Fault, NULL);
  sigaction (SIGSEGV, &Fault, NULL);
  sigaction (SIGTRAP, &Step, NULL);
  Map (RAM, PAGES * SIZE_4KB, PROT_NONE);
  Map (WORK_AREA & ~EFI_PAGE_MASK, EFI_PAGE_SIZE, PROT_READ | PROT_WRITE);
  mSecrets         = Map (0x80D000, EFI_PAGE_SIZE, PROT_READ | PROT_WRITE);
  mTable           = Map (0x900000, 4 * EFI_PAGE_SIZE, PROT_READ | PROT_WRITE);
  SEV_ES_GHCB_BASE = (UINTN)&mGhcb;

  for (Index = 0; Index < ARRAY_SIZE (Sizes); Index++) {
    Set (0, PAGES, SevSnpPagePrivate, TRUE, Sizes[Index]);
    Expect ("pages of 2 MiB", 0, PAGES);
    Set (0, PAGES, SevSnpPageShared, TRUE, Sizes[Index]);
    Expect ("pages that are given back", 0, 0);

    mSmall = TRUE;
    Set (0, PAGES, SevSnpPagePrivate, TRUE, Sizes[Index]);
    Expect ("pages of 2 MiB that the host has in 4 KiB", 0, PAGES);
    Set (0, PAGES, SevSnpPageShared, FALSE, Sizes[Index]);
    mSmall = FALSE;

    Set (3, 1200, SevSnpPagePrivate, TRUE, Sizes[Index]);
    Expect ("pages of both sizes", 3, 1200);
    Set (3, 1200, SevSnpPageShared, TRUE, Sizes[Index]);

    ((SVSM_INFORMATION *)mSecrets)->SvsmSize = SIZE_4KB;
    ((SVSM_INFORMATION *)mSecrets)->SvsmCaa  = (UINTN)Map (0x910000 + Index * SIZE_4KB, EFI_PAGE_SIZE, PROT_READ | PROT_WRITE);
    Set (3, 1200, SevSnpPagePrivate, TRUE, Sizes[Index]);
    Expect ("pages that an SVSM validates", 3, 1200);
    Set (3, 1200, SevSnpPageShared, TRUE, Sizes[Index]);
    ((SVSM_INFORMATION *)mSecrets)->SvsmSize = 0;
  }

  // Memory that was shared, as the GHCB of SEC was: it is read when the page table says private.
  mTable[RAM >> 39]              = ((UINTN)&mTable[512]) | ENCRYPTED | 3;
  mTable[512 + (RAM >> 30)]      = ((UINTN)&mTable[1024]) | ENCRYPTED | 3;
  mTable[1024]                   = ((UINTN)&mTable[1536]) | ENCRYPTED | 3;
  mLeaves                        = (PAGE_TABLE_4K_ENTRY *)&mTable[1536];
  for (Index = 0; Index < 512; Index++) {
    mLeaves[Index].Uint64 = (RAM + Index * SIZE_4KB) | 3;
  }

  InternalMemEncryptSevSetMemoryEncrypted (0, RAM + 9 * SIZE_4KB, 2 * SIZE_4KB);
  Expect ("memory that was shared", 9, 2);
  return 0;
}
